"""Free-running generation: greedy continuations of test prompts compared with the reference text, and samples."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from components.evaluate.generate import continue_batch, greedy, sampling
from components.evaluate.model import LoadedModel
from components.evaluate.texts import scored_units
from components.shared.text.articles import split_lines
from components.shared.text.units import Unit

# The units in which lengths are counted: words, or characters in a text without spaces between words.
_PARTS: dict[Unit, re.Pattern[str]] = {"word": re.compile(r"\S+"), "byte": re.compile(r"\S")}
# The token budget per unit: byte-level vocabularies of 4,000 entries and more need about 1.5 tokens per word, and a
# character has at most four bytes.
_TOKENS: dict[Unit, int] = {"word": 2, "byte": 4}


@dataclass(frozen=True)
class Prompt:
    """A prompt from the test split: the first words of a paragraph, and the reference continuation."""

    title: str
    text: str
    reference: str


@dataclass(frozen=True)
class Continuation:
    """The continuations of a prompt: the reference, the greedy one and the sampled one."""

    title: str
    prompt: str
    reference: str
    greedy: str
    sampled: str


def choose_prompts(
    text: str, count: int, prompt_words: int, continuation_words: int, unit: Unit = "word"
) -> list[Prompt]:
    """Chooses the first long enough paragraph of articles that are spread evenly over the split.

    Lengths are counted in words, not tokens, so that models with other tokenizers continue the same prompts. They are
    counted in characters if the text has no spaces between words.
    """
    found = []
    for piece in scored_units(text):
        for line in split_lines(piece.text):
            words = list(_PARTS[unit].finditer(line))
            if not line.lstrip().startswith("=") and len(words) >= prompt_words + continuation_words:
                cut, end = words[prompt_words - 1].end(), words[prompt_words + continuation_words - 1].end()
                found.append(Prompt(piece.title, line[:cut], line[cut:end]))
                break
    chosen = min(count, len(found))
    return [found[index * len(found) // chosen] for index in range(chosen)]


def continue_prompts(
    loaded: LoadedModel,
    prompts: Sequence[Prompt],
    continuation_words: int,
    *,
    samples: int,
    temperature: float,
    top_k: int,
    seed: int,
    unit: Unit = "word",
) -> list[Continuation]:
    """Continues every prompt greedily, and the first few also by sampling."""
    if not prompts:
        return []
    tokenizer, budget = loaded.tokenizer, _TOKENS[unit] * continuation_words

    def texts(chosen: Sequence[Prompt], choose: Any) -> list[str]:
        ids = [tokenizer.backend_tokenizer.encode(prompt.text, add_special_tokens=False).ids for prompt in chosen]
        reach = loaded.scorer.window
        made = continue_batch(loaded.model, tokenizer, ids, budget, choose, context=reach) if ids else []
        decoded = tokenizer.batch_decode(made, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return [first_words(text, continuation_words, unit) for text in decoded]

    likeliest = texts(prompts, greedy)
    sampled = texts(prompts[:samples], sampling(temperature=temperature, top_k=top_k, seed=seed))
    sampled += [""] * (len(prompts) - len(sampled))
    return [
        Continuation(prompt.title, prompt.text, prompt.reference, *made)
        for prompt, *made in zip(prompts, likeliest, sampled, strict=True)
    ]


def generation_metrics(continuations: Sequence[Continuation], unit: Unit = "word") -> dict[str, Any]:
    """Computes BLEU with sacrebleu, and the diversity of the continuations and of the reference text.

    `distinct_n` is the number of distinct n-grams divided by the number of all n-grams (Li et al. 2016);
    `repetition` is the mean share of the four-grams of a continuation that occur earlier in it.
    """
    from sacrebleu.metrics import BLEU

    made, reference = [each.greedy for each in continuations], [each.reference for each in continuations]
    bleu = BLEU(tokenize="13a" if unit == "word" else "char")
    score = bleu.corpus_score(made, [reference]).score
    return {
        "bleu": score,
        "signature": str(bleu.get_signature()),
        "prompts": len(continuations),
        "decoding": "greedy, free-running",
        **variety(made, unit),
        "reference": variety(reference, unit),
    }


def variety(texts: Sequence[str], unit: Unit = "word") -> dict[str, float]:
    """Computes distinct_1, distinct_2 and repetition of some texts."""
    words = [_PARTS[unit].findall(text) for text in texts]
    return {
        "distinct_1": _distinct(part for each in words for part in each),
        "distinct_2": _distinct(part for each in words for part in pairwise(each)),
        "repetition": _mean(1 - _distinct(zip(*(each[i:] for i in range(4)), strict=False)) for each in words),
    }


def samples_of(continuations: Sequence[Continuation], count: int) -> list[dict[str, str]]:
    """Returns the first continuations as dictionaries; `continuation` is the sampled one."""
    names = {
        "title": "title",
        "prompt": "prompt",
        "continuation": "sampled",
        "greedy": "greedy",
        "reference": "reference",
    }
    return [{key: getattr(each, name) for key, name in names.items()} for each in continuations[:count]]


def first_words(text: str, count: int, unit: Unit = "word") -> str:
    """Returns the text up to and including its `count`-th word, with its original white space."""
    words = list(_PARTS[unit].finditer(text))
    return text if len(words) <= count else text[: words[count - 1].end()]


def _distinct(parts: Iterable[object]) -> float:
    listed = list(parts)
    return len(set(listed)) / len(listed) if listed else 1.0


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
