"""Sampled softmax: the candidates of a step.

The softmax of a small model over a large vocabulary is most of its work. Over the targets of the step and a sample of
the other tokens it is cheap for any vocabulary, and larger vocabularies make shorter texts. Every logit is lowered by
the log probability that its token is in the sample, so that the sum over the sample estimates the sum over the
vocabulary (Bengio and Senécal 2008; Jean et al. 2015). Validation, evaluation and inference use the whole softmax.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from components.shared.base.failure import ExitCode, Failure
from components.train.data import TrainBatches, seed_of
from components.train.settings import TrainSettings


class Candidates(NamedTuple):
    """The candidates of one step.

    Attributes:
        ids: the token ids, ascending, int64, shape (candidates,).
        index_of: the index of each token of the vocabulary among the candidates, int64, shape (vocabulary,); their
            number for a token that is not among them.
        logq_correction: the values that are added to the logits, float32, shape (candidates,).
    """

    ids: Tensor
    index_of: Tensor
    logq_correction: Tensor


class CandidateSampler:
    """Draws the candidates of a step: its tokens and a uniform sample of the others.

    The sample is a function of the seed and the step, so that a resumed training and every process draw the same.

    Args:
        counts: the number of occurrences of each token in the train split; padding of the vocabulary is never drawn.
        size: candidates per step, fewer than the vocabulary.
        tokens: tokens per step: the first input of each sequence, and all targets.
        seed: the seed of the sample.
        device: the device of the candidates; no call waits for it.

    Raises:
        Failure: the tokens of a step are expected to fill the sample.
    """

    def __init__(self, counts: np.ndarray, *, size: int, tokens: int, seed: int, device: torch.device):
        self.vocab_size, self.size, self.seed, self.device = len(counts), size, seed, device
        occurs = 1 - (1 - counts / counts.sum()) ** tokens
        expected = occurs.sum()
        if expected >= size:
            raise Failure(
                f"A step of {tokens} tokens is expected to have {expected:.0f} different ones,"
                f" which leaves nothing of {size} candidates to be drawn",
                where="train.sampled_softmax",
                remedy=f"set it to {tokens}, or to null for the whole vocabulary of {self.vocab_size}",
                exit_code=ExitCode.USAGE,
            )
        chance = occurs + (1 - occurs) * (size - expected) / (self.vocab_size - expected)
        self.logq_correction = torch.from_numpy(-np.log(chance)).float().to(device)
        self.generator = torch.Generator(device)

    def draw(self, step: int, inputs: Tensor, targets: Tensor) -> Candidates:
        """Draws the candidates of a step.

        If a step has more different tokens than candidates, a random selection of them is left out.

        Args:
            step: the step, counted from 0.
            inputs, targets: the ids of the global batch, over all processes and micro-batches, int64, shape
                (sequences, sequence length); each target is the next input.
        """
        self.generator.manual_seed(seed_of(self.seed, step))
        priority = torch.rand(self.vocab_size, generator=self.generator, device=self.device)
        priority[torch.cat([inputs[:, :1], targets], dim=1).flatten()] += 1
        ids = priority.topk(self.size, sorted=False).indices.sort().values
        index_of = torch.full((self.vocab_size,), self.size, device=self.device)
        index_of[ids] = torch.arange(self.size, device=self.device)
        return Candidates(ids, index_of, self.logq_correction[ids])


def candidates_per_step(settings: TrainSettings, vocab_size: int) -> int | None:
    """The number of candidates per step; None for the whole vocabulary."""
    size = settings.sampled_softmax
    return None if size is None or size >= vocab_size else size


def candidate_sampler(batches: TrainBatches, vocab_size: int, settings: TrainSettings) -> CandidateSampler | None:
    """The sampler that the settings ask for; None for the softmax over the whole vocabulary."""
    size = candidates_per_step(settings, vocab_size)
    if size is None:
        return None
    return CandidateSampler(
        batches.split.counts(vocab_size),
        size=size,
        tokens=batches.batch_size * (batches.sequence_length + 1),
        seed=settings.seed,
        device=batches.device,
    )
