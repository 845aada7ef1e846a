"""Settings of the training step. docs/reuse.md explains how they enter the model key."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from components.shared.base.address import is_on_hub, is_registered, is_repository, require_bucket_name
from components.shared.base.model_address import require_model_address, require_version
from components.shared.base.ranges import Range, check_ranges, nearest_multiple, safe_repr

_COUNT = Range(1, 1_000_000)
_STEPS = Range(1, 1_000_000_000)
_LENGTH = Range(2, 1 << 20)  # a sequence of one token has nothing to predict
_RATE = Range(1e-12, 100)
_DROPOUT = Range(0, 0.999)
_BETA = Range(0, 0.999999)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The settings of a training; all but `log_every` determine the weights.

    Attributes:
        seed: the seed of the initial weights, the data order and dropout.
        architecture: the Hugging Face model type of a model from scratch.
        num_hidden_layers, hidden_size, num_attention_heads, key_value_heads, intermediate_size, context: its shape, as
            in the Hugging Face config. None makes `key_value_heads` equal to `num_attention_heads`, and
            `intermediate_size` what is usual for the architecture. `context` is the largest number of positions.
        tied_embeddings: whether the output layer shares the token embedding.
        init: the initial weights of a model from scratch: `random`, or embeddings that are computed from a
            `bigram` count of the train split.
        pretrained: weights to start from instead: a folder (begins with `/`, `./`, `../` or `~`), `s3://bucket/prefix`,
            a registered version (`models:/NAME/VERSION` or `models:/NAME@ALIAS`), or a name on the Hugging Face Hub;
            shape and `init` above are ignored then.
        revision: the commit (40 hex digits) of a model on the Hub.
        dropout: the dropout of residual branches and embeddings.
        attention_dropout: the dropout of attention weights.
        embedding_dropout: the ratio of the vocabulary whose embeddings are dropped for a whole step.
        adapter: parameter-efficient fine-tuning with peft; `none` trains every weight.
        adapter_rank, adapter_alpha, adapter_dropout: the options of LoRA and AdaLoRA; AdaLoRA's mean rank is the first.
        prefix_tokens: the length of the prefix.
        sequence_length: tokens per sequence.
        global_batch_size: sequences per optimizer step, over all processes and micro-batches.
        gradient_accumulation_steps: micro-batches per optimizer step and process.
        steps, epochs, tokens: the budget; training ends with the smallest of those that are set.
        sampled_softmax: the number of sampled-softmax candidates: the targets of a step and a sample of the other
            tokens. None, or a vocabulary that is not larger, computes the whole softmax.
        distill: registered versions whose probabilities the model learns from beside the text, each
            `models:/NAME/VERSION` or `models:/NAME@ALIAS`; all have the tokenizer of the run. If none is named by
            `tokenize.tokenizer`, it is that of the first.
        distill_share: the share of the loss that compares the model with the mean of their probabilities.
        distill_temperature: the temperature of these probabilities.
        prepend_eos: whether the end-of-text token is put before every article.
        optimizer: `adamw` for everything, or `muon` for the matrices of the layers and AdamW for the rest.
        learning_rate: the peak learning rate.
        muon_learning_rate: the peak learning rate of Muon; None takes `learning_rate`.
        beta1, beta2: the betas of AdamW.
        weight_decay: the weight decay of matrices; embeddings, norms and biases have none.
        gradient_clip: the largest norm of all gradients together; None never clips.
        warmup_steps, decay: the learning rate rises linearly, then decays to `min_lr_ratio` times its peak.
        min_lr_ratio: the last learning rate as a ratio of the peak, not a learning rate.
        ema_decay: the decay of the moving average of the weights, which then replaces them in evaluations; None for no
            average.
        evaluate_every: steps between evaluations; there is always one at the end.
        validation_tokens: the number of validation tokens that an evaluation reads, spread evenly; None reads all.
        log_every: steps between rows of the loss curve.
        patience: evaluations without an improvement after which training stops; None never stops early.
        device: `auto` takes the GPU if there is one.
        precision: bfloat16 is autocast over float32 weights; `auto` takes it on GPUs that have units for it and on
            CPUs that were measured to be fast in it, and float32 elsewhere, where bfloat16 would be slower.
        compile: whether the loss and its gradient are compiled.
        threads: CPU threads over all processes of a machine; None takes the granted cores.
        processes: data-parallel processes over all machines; None takes one per GPU.
    """

    seed: Annotated[int, Range(0, 2**64 - 1)] = 1
    architecture: Literal["qwen3", "gpt2"] = "qwen3"
    num_hidden_layers: Annotated[int, Range(1, 512)] = 4
    hidden_size: Annotated[int, Range(1, 1 << 15)] = 256
    num_attention_heads: Annotated[int, Range(1, 512)] = 4
    key_value_heads: Annotated[int | None, Range(1, 512)] = None
    intermediate_size: Annotated[int | None, Range(1, 1 << 20)] = None
    context: Annotated[int, _LENGTH] = 1024
    tied_embeddings: bool = True
    init: Literal["random", "bigram"] = "random"
    pretrained: str | None = None
    revision: str | None = None
    dropout: Annotated[float, _DROPOUT] = 0.0
    attention_dropout: Annotated[float, _DROPOUT] = 0.0
    embedding_dropout: Annotated[float, _DROPOUT] = 0.0

    adapter: Literal["none", "lora", "adalora", "prefix"] = "none"
    adapter_rank: Annotated[int, Range(1, 4096)] = 8
    adapter_alpha: Annotated[float, Range(1e-6, 1e6)] = 16.0
    adapter_dropout: Annotated[float, _DROPOUT] = 0.0
    prefix_tokens: Annotated[int, Range(1, 1 << 16)] = 20

    sequence_length: Annotated[int, _LENGTH] = 256
    global_batch_size: Annotated[int, _COUNT] = 8
    gradient_accumulation_steps: Annotated[int, _COUNT] = 1
    steps: Annotated[int | None, _STEPS] = None
    epochs: Annotated[float | None, Range(1e-6, 1e6)] = None
    tokens: Annotated[int | None, Range(1, 10**15)] = None
    sampled_softmax: Annotated[int | None, Range(1, 10_000_000)] = None
    distill: tuple[str, ...] = ()
    distill_share: Annotated[float, Range(0, 1)] = 0.5
    distill_temperature: Annotated[float, Range(0.01, 100)] = 1.2
    prepend_eos: bool = True

    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: Annotated[float, _RATE] = 1e-3
    muon_learning_rate: Annotated[float | None, _RATE] = None
    beta1: Annotated[float, _BETA] = 0.9
    beta2: Annotated[float, _BETA] = 0.95
    weight_decay: Annotated[float, Range(0, 100)] = 0.1
    gradient_clip: Annotated[float | None, Range(1e-9, 1e9)] = 1.0
    warmup_steps: Annotated[int, Range(0, 1_000_000_000)] = 0
    decay: Literal["linear", "cosine", "constant"] = "linear"
    min_lr_ratio: Annotated[float, Range(0, 1)] = 0.0
    ema_decay: Annotated[float | None, _BETA] = None

    evaluate_every: Annotated[int, _STEPS] = 200
    validation_tokens: Annotated[int | None, Range(1, 10**12)] = None
    patience: Annotated[int | None, _COUNT] = None
    log_every: Annotated[int, _COUNT] = 10

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    threads: Annotated[int | None, Range(1, 1024)] = None
    processes: Annotated[int | None, Range(1, 64)] = None

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.steps is None and self.epochs is None and self.tokens is None:
            raise ValueError("steps, epochs or tokens must be set: training needs a budget")
        if self.from_hub and not is_repository(self.pretrained or ""):
            raise ValueError(
                f"pretrained must be OWNER/NAME on the Hub, a folder or s3://, got {safe_repr(self.pretrained)}"
            )
        require_bucket_name("pretrained", self.pretrained or "")
        require_model_address("pretrained", self.pretrained or "")
        if self.pretrained is None:
            self._check_shape()
        elif self.from_hub and not _COMMIT.fullmatch(self.revision or ""):
            raise ValueError(
                f"revision must be a commit of 40 hex digits for {self.pretrained}, got {safe_repr(self.revision)}"
            )
        elif is_registered(self.pretrained) and self.revision is not None:
            raise ValueError(
                f"revision must be null for {self.pretrained}, whose version is fixed, got {safe_repr(self.revision)}"
            )
        if self.pretrained is None and self.adapter != "none":
            raise ValueError(f"adapter must be none without pretrained weights, got {self.adapter}")
        if self.adapter == "prefix" and self.optimizer == "muon":
            raise ValueError("optimizer must be adamw with a prefix, which has no matrices for muon")
        if self.adapter != "none" and self.sampled_softmax is not None:
            raise ValueError(f"sampled_softmax must be null with an adapter, got {self.sampled_softmax}")
        for address in self.distill:
            require_version("distill", address)
        if len(set(self.distill)) < len(self.distill):
            raise ValueError(f"distill must name each version once, got {safe_repr(', '.join(self.distill))}")
        if self.global_batch_size % (parts := self.gradient_accumulation_steps * (self.processes or 1)):
            raise ValueError(
                f"global_batch_size must be a multiple of gradient_accumulation_steps times processes, {parts}, got"
                f" {self.global_batch_size}; the nearest is {nearest_multiple(self.global_batch_size, parts)}"
            )

    def _check_shape(self) -> None:
        # Rotary positions turn pairs of numbers, so a head has an even number of them.
        unit = self.num_attention_heads if self.architecture == "gpt2" else 2 * self.num_attention_heads
        if self.hidden_size % unit:
            times = "num_attention_heads" if unit == self.num_attention_heads else "twice num_attention_heads,"
            nearest = nearest_multiple(self.hidden_size, unit)
            raise ValueError(
                f"hidden_size must be a multiple of {times} {unit}, got {self.hidden_size}; the nearest is {nearest}"
            )
        if self.num_attention_heads % (self.key_value_heads or self.num_attention_heads):
            heads = self.num_attention_heads
            shares = [count for count in range(1, heads + 1) if heads % count == 0]
            nearest = min(shares, key=lambda share: abs(share - (self.key_value_heads or 0)))
            raise ValueError(
                f"key_value_heads must divide num_attention_heads {self.num_attention_heads}, got"
                f" {self.key_value_heads}; the nearest is {nearest}"
            )
        if self.sequence_length > self.context:
            raise ValueError(
                f"sequence_length must be at most context {self.context}, got {self.sequence_length};"
                f" the nearest is {self.context}"
            )

    @property
    def from_hub(self) -> bool:
        """Whether the pretrained weights are on the Hub."""
        return self.pretrained is not None and is_on_hub(self.pretrained)


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """The settings that do not change the weights.

    Attributes:
        every: steps between checkpoints; None saves them only by time and at an interrupt.
        every_seconds: seconds between checkpoints; None saves them only by steps. A container may be gone a second
            after SIGTERM, so on a cluster this is the time that an interruption can cost.
        keep: the number of checkpoints that stay in the store.
    """

    every: Annotated[int | None, _STEPS] = 200
    every_seconds: Annotated[float | None, Range(1e-3, 31_536_000)] = None
    keep: Annotated[int, Range(1, 1000)] = 2

    def __post_init__(self) -> None:
        check_ranges(self)
