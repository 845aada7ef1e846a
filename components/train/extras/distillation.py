"""Distillation: the model learns from the probabilities of other models, its teachers, beside the text.

The loss is `(1 - share) * hard + share * T^2 * soft`. `hard` is the cross entropy with the next token, and `soft` that
with the mean of the teachers' probabilities, where the logits of all models are divided by the temperature T. The
gradient of `soft` shrinks as 1 / T^2, for which the factor makes up (Hinton, Vinyals and Dean 2015, "Distilling the
Knowledge in a Neural Network", section 2). The cross entropy differs from the Kullback-Leibler divergence by the
entropy of the teachers' mean, which has no gradient.

A sampled softmax has the candidates of the step instead of the vocabulary. A sum over the vocabulary is then estimated
by the sum over the candidates, each divided by the probability of being one. For terms `exp(logit / T)` this adds the
logQ correction to `logit / T`, after the division, because the correction belongs to the sample and not to the model.
Teachers and student get the same one. Both probabilities then estimate those over the vocabulary, so their difference,
which is the gradient, does too, and it vanishes in every sample where the student equals its teacher. With a correction
of the student alone, its optimum would be off by the correction. Without any, tokens that are rarely candidates would
count too little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import Tensor, nn

from components.shared.base.failure import ExitCode, Failure
from components.shared.model.head import has_linear_lm_head
from components.train.extras.sampled_softmax import Candidates
from components.train.settings import TrainSettings


class SoftTargets(NamedTuple):
    """What the teachers say about the targets of a micro-batch.

    Attributes:
        probabilities: the mean of their probabilities, float32, shape (tokens, vocabulary or candidates).
        share: the share of the soft loss.
        temperature: the temperature T.
    """

    probabilities: Tensor
    share: float
    temperature: float


class Distillation:
    """The teachers of a training, which compute the soft targets of its micro-batches.

    Args:
        teachers: the models, in evaluation mode on the device.
        settings: the share, the temperature, and whether the computation is compiled.
        vocab_size: the size of the tokenizer's vocabulary.
    """

    def __init__(self, teachers: Sequence[nn.Module], settings: TrainSettings, vocab_size: int):
        self.teachers, self.settings, self.vocab_size = list(teachers), settings, vocab_size
        self.probabilities: Callable[..., Tensor] = mean_probabilities
        if settings.compile:
            self.probabilities = torch.compile(mean_probabilities, dynamic=False, fullgraph=True)

    @classmethod
    def of(cls, teachers: Sequence[nn.Module], settings: TrainSettings, vocab_size: int) -> Distillation | None:
        """The distillation from these teachers; None if there are none."""
        return cls(teachers, settings, vocab_size) if teachers else None

    @torch.no_grad()
    def soft_targets(self, inputs: Tensor, candidates: Candidates | None) -> SoftTargets:
        """The soft targets of a micro-batch. Call it under the autocast of the training.

        Args:
            inputs: token ids, shape (sequences, sequence length).
            candidates: the sampled-softmax candidates of the step, or None.
        """
        temperature = self.settings.distill_temperature
        mean = self.probabilities(self.teachers, inputs, self.vocab_size, temperature, candidates)
        return SoftTargets(mean, self.settings.distill_share, temperature)


def mean_probabilities(
    teachers: Sequence[Any], inputs: Tensor, vocab_size: int, temperature: float, candidates: Candidates | None = None
) -> Tensor:
    """The mean of the probabilities of several models at a temperature, float32, shape (tokens, classes)."""
    probabilities = [
        tempered(_logits(teacher, inputs, vocab_size, candidates), temperature, candidates).softmax(dim=-1)
        for teacher in teachers
    ]
    return torch.stack(probabilities).mean(dim=0) if len(probabilities) > 1 else probabilities[0]


def tempered(logits: Tensor, temperature: float, candidates: Candidates | None) -> Tensor:
    """Logits over a temperature, then corrected for the sample of candidates; float32, shape (tokens, classes)."""
    scaled = logits.flatten(0, 1).float() / temperature
    return scaled if candidates is None else scaled + candidates.logq_correction


def distilled_loss(hard: Tensor, logits: Tensor, soft_targets: SoftTargets, candidates: Candidates | None) -> Tensor:
    """The mix of the loss on the text and the loss on the soft targets.

    Args:
        hard: the mean cross entropy with the next tokens.
        logits: the logits of the model without the logQ correction, shape (sequences, sequence length, classes).
        soft_targets: the soft targets of the same inputs.
        candidates: the classes, if they are the sampled-softmax candidates.
    """
    mean, share, temperature = soft_targets
    soft = F.cross_entropy(tempered(logits, temperature, candidates), mean)
    return (1 - share) * hard + share * temperature**2 * soft


def load_teachers(folders: Sequence[Path], settings: TrainSettings, device: torch.device) -> list[nn.Module]:
    """Loads the teachers.

    Args:
        folders: a Hugging Face folder for each address in `distill`.
        settings: the settings of the training.
        device: the device of the training.

    Raises:
        Failure: a teacher has a context that is shorter than a sequence, or an output layer that does not fit a sampled
            softmax.
    """
    from transformers import AutoModelForCausalLM

    teachers = []
    for address, folder in zip(settings.distill, folders, strict=True):
        teacher: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
        if settings.sequence_length > (context := teacher.config.max_position_embeddings):
            raise _unfit(
                f"A sequence of {settings.sequence_length} tokens is longer than the context of a teacher, {context}",
                address,
                f"set train.sequence_length to at most {context}",
            )
        teacher.config.use_cache = False
        teacher.eval().requires_grad_(False)
        if settings.sampled_softmax and not has_linear_lm_head(teacher):
            raise _unfit(
                f"The logits of a {teacher.config.model_type} model are scaled, capped or shifted, which a sampled"
                " softmax does not do",
                address,
                "set train.sampled_softmax to null for the softmax over the whole vocabulary",
            )
        teachers.append(teacher.to(device))
    return teachers


def _logits(teacher: Any, inputs: Tensor, vocab_size: int, candidates: Candidates | None) -> Tensor:
    """The logits of a teacher, which has all rows of its embeddings, without the logQ correction."""
    if candidates is None:
        return teacher(input_ids=inputs).logits[..., :vocab_size]
    hidden = teacher.base_model(input_ids=inputs).last_hidden_state
    return F.linear(hidden, F.embedding(candidates.ids, teacher.get_output_embeddings().weight))


def _unfit(what: str, address: str, remedy: str) -> Failure:
    return Failure(what, where=f"train.distill, {address}", remedy=remedy, exit_code=ExitCode.USAGE)
