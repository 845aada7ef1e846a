"""Settings of the step that scores the model and recommends."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from components.shared.gate import Policy, Rule

Protocol = Literal["wikitext-word", "hf-doc", "lm-eval"]

# They say what is done with the scores and do not change them, so they are left out of the evaluation's key.
GATE_FIELDS = tuple(field.name for field in fields(Rule) if field.name != "seed")


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """How a model is scored and what it takes to replace the champion.

    Attributes:
        protocols: how perplexity is measured, see docs/evaluation.md; the gate needs `wikitext-word`, which is always
            measured.
        window: tokens that the model reads at once; None: as many as it was trained on.
        stride: tokens by which the window moves; None: a whole window, the cheapest. Half a window gives each token
            more context, a lower perplexity, and costs twice the time.
        bos: whether the end-of-text token stands, unscored, before the text: `auto` where the model was trained on
            texts that it separates.
        device: where to compute; `auto` takes a GPU if there is one.
        dtype: `auto` is bfloat16 autocast on a GPU that has units for it, and float32 on others and on a CPU.
        threads: of the CPU; None: the cores that the process was granted.
        batch_tokens: tokens computed at once; None: 2,048 on a CPU, whose cache they fit, 65,536 on a GPU.
        bleu_prompts: articles of the test split that the model continues; 0 leaves BLEU out.
        prompt_words: words of a prompt.
        continuation_words: words of a continuation.
        samples: continuations shown in the report and kept.
        temperature: of the samples that are drawn rather than greedy.
        top_k: most likely tokens among which a sample is drawn.
        seed: of samples and of the gate's resampling.
        margin: nats per word by which a challenger must be better than the champion; 0.005 is 0.5 % of perplexity.
        confidence: of the gate's interval.
        resamples: of the gate's bootstrap.
        policy: `auto` lets the gate name the champion, `manual` only ever a challenger, `never` leaves aliases alone.
    """

    protocols: tuple[Protocol, ...] = ("wikitext-word",)
    window: int | None = None
    stride: int | None = None
    bos: Literal["auto", "always", "never"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int | None = None
    batch_tokens: int | None = None
    bleu_prompts: int = 48
    prompt_words: int = 48
    continuation_words: int = 32
    samples: int = 4
    temperature: float = 0.8
    top_k: int = 40
    seed: int = 0
    margin: float = Rule.margin
    confidence: float = Rule.confidence
    resamples: int = Rule.resamples
    policy: Policy = Rule.policy

    def __post_init__(self) -> None:
        if len(set(self.protocols)) != len(self.protocols):
            raise ValueError(f"protocols must name each protocol once, got {', '.join(self.protocols)}")
        if self.window is not None and self.window < 2:
            raise ValueError(f"window must be at least 2 tokens, got {self.window}")
        if self.stride is not None and self.stride < 1:
            raise ValueError(f"stride must be at least 1 token, got {self.stride}")
        if self.window is not None and self.stride is not None and self.stride > self.window:
            raise ValueError(
                f"stride must not exceed the window ({self.window}), or tokens go unscored, got {self.stride}"
            )
        for name in ("threads", "batch_tokens"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("prompt_words", "continuation_words", "top_k"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("bleu_prompts", "samples", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.resamples < 100:
            raise ValueError(f"resamples must be at least 100, got {self.resamples}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if not 0 <= self.margin < float("inf"):
            raise ValueError(f"margin must be 0 or more nats per word, got {self.margin}")
        if not 0.5 <= self.confidence < 1:
            raise ValueError(f"confidence must be at least 0.5 and below 1, got {self.confidence}")
