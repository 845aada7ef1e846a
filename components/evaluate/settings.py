"""Settings of the step that scores the model and recommends."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from components.shared.base.ranges import Range, check_ranges
from components.shared.tracking.gate import Policy, Rule

_PROMPTS = Range(0, 1_000_000)
_WORDS = Range(1, 1_000_000)
Protocol = Literal["wikitext-word", "hf-doc", "lm-eval"]

# They decide what is done with the scores and do not change them, so the evaluation's key does not contain them.
GATE_FIELDS = tuple(field.name for field in fields(Rule) if field.name != "seed")


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """How a model is scored and when it replaces the champion.

    Attributes:
        protocols: how perplexity is measured, see docs/evaluation.md; the gate needs `wikitext-word`, which is always
            measured.
        window: tokens that the model reads at once; None: as many as it was trained on.
        stride: tokens by which the window moves; None: a whole window, the cheapest. Half a window gives each token
            more context, a lower perplexity, and costs twice the time.
        bos: whether an unscored end-of-text token precedes the text; `auto`: if the model was trained on texts that
            it separates.
        device: where to compute; `auto` takes a GPU if there is one.
        dtype: `auto` is bfloat16 autocast on a GPU that has units for it, and float32 on others and on a CPU.
        threads: of the CPU; None: the cores that the process was granted.
        batch_tokens: tokens computed at once; None: 2,048 on a CPU, whose cache they fit, 65,536 on a GPU.
        bleu_prompts: articles of the test split that the model continues; 0 leaves BLEU out.
        prompt_words: words of a prompt, or characters of a text without blanks.
        continuation_words: words of a continuation.
        samples: continuations shown in the report and kept.
        temperature: of the samples that are drawn rather than greedy.
        top_k: most likely tokens among which a sample is drawn.
        seed: of samples and of the gate's resampling.
        margin: nats per word by which a challenger must be better than the champion; 0.005 is 0.5 % of perplexity. Of
            a text without blanks it is a fifth of that per byte.
        confidence: of the gate's interval.
        resamples: of the gate's bootstrap.
        policy: `auto` lets the gate name the champion, `manual` only ever a challenger, `never` leaves aliases alone.
    """

    protocols: tuple[Protocol, ...] = ("wikitext-word",)
    window: Annotated[int | None, Range(2, 1 << 20)] = None
    stride: Annotated[int | None, Range(1, 1 << 20)] = None
    bos: Literal["auto", "always", "never"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: Annotated[int | None, Range(1, 1024)] = None
    batch_tokens: Annotated[int | None, Range(1, 1 << 20)] = None
    bleu_prompts: Annotated[int, _PROMPTS] = 48
    prompt_words: Annotated[int, _WORDS] = 48
    continuation_words: Annotated[int, _WORDS] = 32
    samples: Annotated[int, _PROMPTS] = 4
    temperature: Annotated[float, Range(0.01, 100)] = 0.8
    top_k: Annotated[int, Range(1, 10_000_000)] = 40
    seed: Annotated[int, Range(0, 2**64 - 1)] = 0
    margin: Annotated[float, Range(0, 100)] = Rule.margin
    confidence: Annotated[float, Range(0.5, 0.9999)] = Rule.confidence
    resamples: Annotated[int, Range(100, 100_000)] = Rule.resamples
    policy: Policy = Rule.policy

    def __post_init__(self) -> None:
        check_ranges(self)
        if len(set(self.protocols)) != len(self.protocols):
            raise ValueError(f"protocols must name each protocol once, got {', '.join(self.protocols)}")
        if self.window is not None and self.stride is not None and self.stride > self.window:
            raise ValueError(
                f"stride must not exceed the window ({self.window}), or tokens go unscored, got {self.stride}"
            )
