"""The language model: built from a configuration or from pretrained weights, with its loss and its saved folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from components.shared.base.failure import ExitCode, Failure, first_line
from components.shared.model.head import has_linear_lm_head
from components.train.extras.adapters import AdaLoraController
from components.train.extras.bigram import init_embeddings_from_bigrams
from components.train.extras.distillation import SoftTargets, distilled_loss
from components.train.extras.sampled_softmax import Candidates
from components.train.settings import TrainSettings

# The largest matrix product of the model runs at full speed if its sizes are multiples of this.
_ALIGNMENT = 64


def build_model(
    settings: TrainSettings,
    *,
    vocab_size: int,
    eos_id: int,
    weights: Path | None = None,
    ids: Callable[[], np.ndarray] | None = None,
) -> PreTrainedModel:
    """The model to train, in float32 on the CPU. Its vocabulary is padded to a multiple of 64 until `save_model`.

    Args:
        settings: the shape, the dropout and the seed.
        vocab_size: the size of the tokenizer's vocabulary.
        eos_id: the end-of-text token, which also begins a text.
        weights: a folder with pretrained weights, or None for a model from scratch.
        ids: returns the token ids of the train split, from which a bigram initialization is computed; None where a
            checkpoint is loaded afterwards.

    Raises:
        Failure: the weights are not safetensors, belong to another tokenizer, have a context that is shorter than a
            sequence, or have an output layer that does not fit a sampled softmax.
    """
    torch.manual_seed(settings.seed)
    if weights is None:
        config = model_config(settings, vocab_size=vocab_size, eos_id=eos_id)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", trust_remote_code=False)
    else:
        model = _load(weights, settings, vocab_size=vocab_size)
        if settings.sampled_softmax and not has_linear_lm_head(model):
            raise Failure(
                f"The logits of a {model.config.model_type} model are scaled, capped or shifted, which a sampled"
                " softmax does not do",
                where="train.sampled_softmax",
                remedy="set it to null for the softmax over the whole vocabulary",
                exit_code=ExitCode.USAGE,
            )
    model.config.use_cache = False
    if model.config.vocab_size % _ALIGNMENT:
        model.resize_token_embeddings(pad_to_multiple_of=_ALIGNMENT, mean_resizing=False)
    if weights is None and ids is not None and settings.init == "bigram":
        init_embeddings_from_bigrams(model, ids(), vocab_size=vocab_size, seed=settings.seed)
    _add_dropout(model, settings)
    return model


def model_config(settings: TrainSettings, *, vocab_size: int, eos_id: int) -> Any:
    """The Hugging Face configuration of a model from scratch."""
    common = {
        "vocab_size": vocab_size,
        "tie_word_embeddings": settings.tied_embeddings,
        "bos_token_id": eos_id,
        "eos_token_id": eos_id,
        "dtype": "float32",
    }
    if settings.architecture == "gpt2":
        return AutoConfig.for_model(
            "gpt2",
            n_positions=settings.context,
            n_embd=settings.hidden_size,
            n_layer=settings.num_hidden_layers,
            n_head=settings.num_attention_heads,
            n_inner=settings.intermediate_size,
            resid_pdrop=settings.dropout,
            embd_pdrop=settings.dropout,
            attn_pdrop=settings.attention_dropout,
            **common,
        )
    return AutoConfig.for_model(
        "qwen3",
        hidden_size=settings.hidden_size,
        num_hidden_layers=settings.num_hidden_layers,
        num_attention_heads=settings.num_attention_heads,
        num_key_value_heads=settings.key_value_heads or settings.num_attention_heads,
        head_dim=settings.hidden_size // settings.num_attention_heads,
        intermediate_size=settings.intermediate_size or -(-settings.hidden_size * 8 // 3 // _ALIGNMENT) * _ALIGNMENT,
        max_position_embeddings=settings.context,
        attention_dropout=settings.attention_dropout,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        **common,
    )


def token_loss(
    model: Any,
    inputs: Tensor,
    targets: Tensor,
    vocab_size: int,
    candidates: Candidates | None = None,
    adalora: AdaLoraController | None = None,
    soft_targets: SoftTargets | None = None,
) -> Tensor:
    """Mean negative log-likelihood (nats) per token, mixed with the loss on soft targets if there are any.

    If the adapter is AdaLoRA, its penalty is added.

    Args:
        model: a causal language model of transformers; with candidates, its output layer must be a plain matrix.
        inputs: token ids, shape (sequences, sequence length).
        targets: the token after each input, the same shape; nothing is shifted here and every target counts.
        vocab_size: the size of the tokenizer's vocabulary; the padding of the model's vocabulary gets no probability.
        candidates: the sampled-softmax candidates, whose rows the model has in the place of its whole embeddings (see
            `CandidateRows`); None computes the softmax over the whole vocabulary.
        adalora: the controller of AdaLoRA, or None.
        soft_targets: what the teachers of a distillation say about the targets, or None.
    """
    if candidates is not None:
        count = len(candidates.ids)
        hidden = model.base_model(input_ids=candidates.index_of[inputs]).last_hidden_state
        logits = F.linear(hidden, model.get_output_embeddings().weight[:count])
        corrected, targets, ignored = logits + candidates.logq_correction, candidates.index_of[targets], count
    else:
        logits, ignored = model(input_ids=inputs).logits, -1
        if logits.shape[-1] != vocab_size:  # slicing the full width would cost a copy in the backward pass
            logits = logits[..., :vocab_size]
        corrected = logits
    loss = F.cross_entropy(corrected.flatten(0, 1).float(), targets.flatten(), ignore_index=ignored)
    if soft_targets is not None:
        loss = distilled_loss(loss, logits, soft_targets, candidates)
    return loss if adalora is None else loss + adalora.penalty()


def save_model(model: PreTrainedModel, folder: Path, *, vocab_size: int, eos_id: int) -> None:
    """Writes config.json, generation_config.json and model.safetensors, without the padding of the vocabulary."""
    if model.config.vocab_size != vocab_size:
        model.resize_token_embeddings(vocab_size, mean_resizing=False)
    model.config.use_cache = True
    model.generation_config = GenerationConfig(
        bos_token_id=eos_id, eos_token_id=eos_id, pad_token_id=eos_id, do_sample=True, top_p=0.95, temperature=0.8
    )
    model.save_pretrained(folder)


def _load(folder: Path, settings: TrainSettings, *, vocab_size: int) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if settings.sequence_length > (context := config.max_position_embeddings):
        raise Failure(
            f"A sequence of {settings.sequence_length} tokens is longer than the context of the pretrained model,"
            f" {context}",
            where="train.sequence_length",
            remedy=f"set train.sequence_length to at most {context}",
            exit_code=ExitCode.USAGE,
        )
    if not vocab_size <= config.vocab_size < vocab_size + 1024:
        raise Failure(
            f"The tokenizer has {vocab_size} entries and the pretrained model {config.vocab_size}",
            where="train.pretrained",
            remedy="take the tokenizer of that model, by tokenize.tokenizer",
            exit_code=ExitCode.USAGE,
        )
    for name in ("resid_pdrop", "embd_pdrop"):
        if hasattr(config, name):
            setattr(config, name, settings.dropout)
    for name in ("attn_pdrop", "attention_dropout"):
        if hasattr(config, name):
            setattr(config, name, settings.attention_dropout)
    try:
        return AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError) as error:
        raise Failure(
            f"The pretrained weights cannot be loaded: {first_line(error)}",
            where=str(folder),
            remedy="give a Hugging Face folder with config.json and model.safetensors",
        ) from error


def _add_dropout(model: PreTrainedModel, settings: TrainSettings) -> None:
    """Adds the dropout that the architecture has no setting for. Hooks do not change the saved model."""
    embedding = model.get_input_embeddings()
    if settings.embedding_dropout:
        embedding.register_forward_hook(_drop_embeddings(settings.embedding_dropout))
    if settings.dropout and not hasattr(model.config, "resid_pdrop"):
        branches = [module for name, module in model.named_modules() if name.endswith(("o_proj", "down_proj"))]
        for module in [embedding, *branches]:
            module.register_forward_hook(_drop(settings.dropout))


def _drop(probability: float) -> Any:
    return lambda module, inputs, output: F.dropout(output, probability, module.training)


def _drop_embeddings(probability: float) -> Any:
    """Drops whole token embeddings, the same ones wherever they occur in a step (Gal and Ghahramani 2016)."""

    def hook(module: nn.Embedding, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        if not module.training:
            return output
        keep = torch.rand(module.num_embeddings, 1, device=output.device) >= probability
        return output * F.embedding(inputs[0], keep.to(output.dtype) / (1 - probability))

    return hook
