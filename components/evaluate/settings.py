"""Settings of the evaluate step."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from components.shared.base.ranges import Range, check_ranges
from components.shared.tracking.gate import Policy, Rule

_PROMPTS = Range(0, 1_000_000)
_WORDS = Range(1, 1_000_000)
Protocol = Literal["wikitext-word", "hf-doc", "lm-eval", "wikitext-word+dynamic", "wikitext-word+cache"]
# The protocols by which the model adapts to the text while it is scored, and how it does.
DYNAMIC, CACHE = "wikitext-word+dynamic", "wikitext-word+cache"
ADAPTIVE = {DYNAMIC: "dynamic evaluation", CACHE: "continuous cache"}

# These settings apply to finished scores and do not change them, so they are not part of the evaluation's key.
GATE_FIELDS = tuple(field.name for field in fields(Rule) if field.name != "seed")


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """How a model is scored and when it replaces the champion.

    Attributes:
        protocols: the protocols of perplexity, see docs/evaluation.md; the gate needs `wikitext-word`, which is always
            measured. By those with a `+` the model adapts to the text while it is scored, and the gate never reads
            them.
        cache_size: the number of past tokens in the cache of `wikitext-word+cache`.
        window: the number of tokens that the model reads at once; None uses the context that it was trained with.
        stride: the number of tokens by which the window moves; None moves it by a whole window, which is the fastest.
            Half a window gives each token more context, so that perplexity is lower, and takes twice the time.
        bos: whether an unscored end-of-text token precedes the text; `auto` adds it if the model was trained with one.
        device: the device of the computation; `auto` uses a GPU if there is one.
        dtype: the precision; `auto` is bfloat16 autocast on a GPU that supports it, and float32 on other GPUs and on a
            CPU.
        threads: the number of CPU threads; None uses the cores that the process may use.
        batch_tokens: the number of tokens that are computed at once; None uses 2,048 on a CPU, whose cache they fit,
            and 65,536 on a GPU.
        bleu_prompts: the number of articles of the test split that the model continues; 0 skips BLEU.
        prompt_words: the number of words of a prompt, or of characters for a text without spaces between words.
        continuation_words: the number of words, or characters, of a continuation.
        samples: the number of sampled continuations in the report.
        temperature: the temperature of the sampled continuations.
        top_k: the number of most probable tokens that are sampled from.
        seed: the seed of the sampling and of the gate's bootstrap.
        margin: nats per word by which a challenger must be better than the champion; 0.005 is 0.5 % of perplexity. For
            a text without spaces between words, the margin per byte is a fifth of it.
        confidence: the confidence level of the gate's interval.
        resamples: the number of resamples of the gate's bootstrap.
        policy: `auto` lets the gate move the alias champion, `manual` lets it set only challenger, and `never` leaves
            aliases unchanged.
    """

    protocols: tuple[Protocol, ...] = ("wikitext-word",)
    cache_size: Annotated[int, Range(1, 1 << 20)] = 2000
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
                f"stride must not exceed the window ({self.window}), or tokens are not scored, got {self.stride}"
            )
