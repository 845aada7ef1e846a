"""Settings of the training step. docs/reuse.md says which of them decide the weights."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, Literal

from components.shared.address import is_on_hub

_POSITIVE = (
    "layers",
    "width",
    "heads",
    "key_value_heads",
    "feed_forward",
    "context",
    "block",
    "batch",
    "accumulation",
    "steps",
    "epochs",
    "tokens",
    "learning_rate",
    "matrix_learning_rate",
    "gradient_clip",
    "log_every",
    "evaluate_every",
    "validation_tokens",
    "patience",
    "threads",
    "processes",
    "adapter_rank",
    "adapter_alpha",
    "prefix_tokens",
    "sampled_softmax",
)
_FRACTIONS = ("dropout", "attention_dropout", "embedding_dropout", "adapter_dropout", "final_learning_rate")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What decides the weights.

    Attributes:
        seed: of the initial weights, the data order and dropout.
        architecture: the Hugging Face model type of a model made from scratch.
        layers, width, heads, key_value_heads, feed_forward, context: its shape; None leaves key and value heads equal
            to `heads` and takes the architecture's usual feed-forward width. `context` is the largest position.
        tied_embeddings: whether the output layer shares the token embedding.
        start: of a model made from scratch: `random` weights, or what a `bigram` count of the train split says: a whole
            bigram model, or with tied embeddings which tokens are alike.
        pretrained: weights to start from instead: a folder (begins with `/`, `./`, `../` or `~`), `s3://bucket/prefix`,
            or a name on the Hugging Face Hub; shape and `start` above are ignored then.
        revision: the commit (40 hex digits) of a model on the Hub.
        dropout: of residual branches and embeddings; attention_dropout: of attention weights; embedding_dropout: the
            share of the vocabulary whose vectors are dropped for a whole step.
        adapter: parameter-efficient fine-tuning by peft; `none` trains every weight.
        adapter_rank, adapter_alpha, adapter_dropout: of LoRA and AdaLoRA, whose ranks have the first as their mean.
        prefix_tokens: length of the prefix.
        block: tokens a sequence; batch: sequences an optimizer step, over all processes and accumulated parts.
        accumulation: parts that a step is computed in.
        steps, epochs, tokens: the budget; training ends with the smallest of those that are set.
        sampled_softmax: tokens of the vocabulary that a step of training tells each target apart from: the step's
            targets and a sample of the others; None, or a vocabulary of no more, takes all.
        document_start: put the end-of-text token before every article.
        optimizer: `adamw` for everything, or `muon` for the matrices of the layers and AdamW for the rest.
        learning_rate: the peak; matrix_learning_rate: Muon's, if it is not the same.
        beta1, beta2: of AdamW.
        weight_decay: of matrices; embeddings, norms and biases have none.
        gradient_clip: the largest norm of all gradients; None never clips.
        warmup_steps, decay, final_learning_rate: linear warm-up, then decay to that share of the peak.
        ema_decay: of the moving average of the weights, which is what is evaluated and kept then; None for none.
        evaluate_every: steps between evaluations; there is one at the end in any case.
        validation_tokens: how much of validation an evaluation reads, spread evenly; None for all of it.
        log_every: steps between rows of the curve.
        patience: evaluations without an improvement after which training stops; None never stops early.
        device: `auto` takes the GPU where there is one.
        precision: bfloat16 is autocast over float32 weights; `auto` takes it on GPUs that have units for it and on
            CPUs that were measured to be fast in it, and float32 elsewhere, where it would be slower.
        compile: whether loss and gradient are compiled.
        threads: CPU threads over all processes; None takes the cores granted.
        processes: data-parallel processes; None takes one for every GPU.
    """

    seed: int = 1
    architecture: Literal["qwen3", "gpt2"] = "qwen3"
    layers: int = 4
    width: int = 256
    heads: int = 4
    key_value_heads: int | None = None
    feed_forward: int | None = None
    context: int = 1024
    tied_embeddings: bool = True
    start: Literal["random", "bigram"] = "random"
    pretrained: str | None = None
    revision: str | None = None
    dropout: float = 0.0
    attention_dropout: float = 0.0
    embedding_dropout: float = 0.0

    adapter: Literal["none", "lora", "adalora", "prefix"] = "none"
    adapter_rank: int = 8
    adapter_alpha: float = 16.0
    adapter_dropout: float = 0.0
    prefix_tokens: int = 20

    block: int = 256
    batch: int = 8
    accumulation: int = 1
    steps: int | None = None
    epochs: float | None = None
    tokens: int | None = None
    sampled_softmax: int | None = None
    document_start: bool = True

    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 1e-3
    matrix_learning_rate: float | None = None
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    gradient_clip: float | None = 1.0
    warmup_steps: int = 0
    decay: Literal["linear", "cosine", "constant"] = "linear"
    final_learning_rate: float = 0.0
    ema_decay: float | None = None

    evaluate_every: int = 200
    validation_tokens: int | None = None
    patience: int | None = None
    log_every: int = 10

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    threads: int | None = None
    processes: int | None = None

    def __post_init__(self) -> None:
        _check_ranges(self)
        if self.steps is None and self.epochs is None and self.tokens is None:
            raise ValueError("steps, epochs or tokens must be set: training needs a budget")
        if self.pretrained is None:
            self._check_shape()
        elif self.from_hub and not _COMMIT.fullmatch(self.revision or ""):
            raise ValueError(f"revision must be a commit of 40 hex digits for {self.pretrained}, got {self.revision}")
        if self.pretrained is None and self.adapter != "none":
            raise ValueError(f"adapter must be none without pretrained weights, got {self.adapter}")
        if self.adapter == "prefix" and self.optimizer == "muon":
            raise ValueError("optimizer must be adamw with a prefix, which has no matrices for muon")
        if self.adapter != "none" and self.sampled_softmax is not None:
            raise ValueError(f"sampled_softmax must be null with an adapter, got {self.sampled_softmax}")
        if self.batch % (parts := self.accumulation * (self.processes or 1)):
            raise ValueError(f"batch must be a multiple of accumulation times processes, {parts}, got {self.batch}")

    def _check_shape(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads {self.heads}, got {self.width}")
        if self.heads % (self.key_value_heads or self.heads):
            raise ValueError(f"key_value_heads must divide heads {self.heads}, got {self.key_value_heads}")
        if self.block > self.context:
            raise ValueError(f"block must be at most context {self.context}, got {self.block}")

    @property
    def from_hub(self) -> bool:
        """Whether the pretrained weights are named by the Hub."""
        return self.pretrained is not None and is_on_hub(self.pretrained)


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """What does not change the weights.

    Attributes:
        every: steps between checkpoints; None leaves only those by time and the one that an interrupt makes.
        every_seconds: seconds after which there is a checkpoint in any case; None leaves those by steps. A container
            may be gone a second after SIGTERM, so on a cluster this is what an interruption can cost.
        keep: how many stay in the store.
    """

    every: int | None = 200
    every_seconds: float | None = None
    keep: int = 2

    def __post_init__(self) -> None:
        for name, value in (("every", self.every), ("keep", self.keep)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.every_seconds is not None and not self.every_seconds > 0:
            raise ValueError(f"every_seconds must be above 0, got {self.every_seconds}")


def _check_ranges(settings: Any) -> None:
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    for name in _POSITIVE:
        if values[name] is not None and not values[name] > 0:
            raise ValueError(f"{name} must be above 0, got {values[name]}")
    for name in _FRACTIONS:
        if not 0 <= values[name] < 1:
            raise ValueError(f"{name} must be at least 0 and below 1, got {values[name]}")
    for name in ("weight_decay", "warmup_steps", "seed"):
        if not values[name] >= 0:
            raise ValueError(f"{name} must be at least 0, got {values[name]}")
    for name in ("beta1", "beta2", "ema_decay"):
        if values[name] is not None and not 0 < values[name] < 1:
            raise ValueError(f"{name} must be above 0 and below 1, got {values[name]}")
