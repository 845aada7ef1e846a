"""Protocols that adapt to the text while they score it: every token is scored once, before anything learns from it.

Text, units, counts and windows are those of `wikitext-word`. How strongly a protocol adapts is chosen on the beginning
of the validation text, over a small grid that is recorded with the scores. Such scores can be compared with published
ones of the same kind only, and the gate never reads them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.evaluate.cache import CacheScorer, mixed_nll
from components.evaluate.dynamic import DynamicScorer, gradient_scale
from components.evaluate.perplexity import Score, encode_text, score_text
from components.evaluate.scoring import Scorer
from components.evaluate.settings import ADAPTIVE, CACHE, DYNAMIC
from components.shared.base.failure import ExitCode, Failure
from components.shared.text.articles import read_pieces
from components.shared.text.units import exp_mean
from components.shared.tracking.gate import PROTOCOL

if TYPE_CHECKING:
    from components.evaluate.model import LoadedModel

# Parameters are chosen, and gradients on training text are measured, on this much text.
_CHARACTERS = 100_000
_LEARNING_RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3)
_DECAYS = (0.0, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
_FLATNESSES = (5.0, 10.0, 20.0, 40.0, 80.0)
_WEIGHTS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4)

Progress = Callable[[str, str, int, int], None]


@dataclass(frozen=True)
class AdaptedScores:
    """The scores of a model that adapted while it was scored.

    Attributes:
        method: how it adapted.
        parameters: the parameters of the method, by name.
        grid: the parameters that were tried on the beginning of validation, each with the perplexity per token there.
        chosen_on_tokens: the number of scored tokens of that beginning.
        splits: the score by split.
    """

    method: str
    parameters: dict[str, float]
    grid: tuple[dict[str, float], ...]
    chosen_on_tokens: int
    splits: dict[str, Score]


def require_adaptable(loaded: LoadedModel, protocols: tuple[str, ...]) -> None:
    """Checks that the model can be scored by the protocols that adapt.

    Raises:
        Failure: it has a prefix, or an output layer that gives the cache no states.
    """
    if loaded.prefixed and (asked := [name for name in protocols if name in ADAPTIVE]):
        raise _unsuitable(f"A model with a trained prefix cannot be scored by {asked[0]}", asked[0])
    if CACHE in protocols and not loaded.scorer.plain_head:
        raise _unsuitable(f"The logits of this model are not linear in its last states, which {CACHE} compares", CACHE)


def score_adaptively(
    protocol: str,
    loaded: LoadedModel,
    texts: Mapping[str, str],
    train: Path,
    cache_size: int,
    progress: Progress,
) -> AdaptedScores:
    """Chooses how strongly the model adapts, and scores each split. The model is unchanged afterwards.

    Args:
        protocol: a name among `ADAPTIVE`.
        loaded: the model.
        texts: the texts of `validation` and `test`.
        train: the file of the train split, of which the beginning is read.
        cache_size: the number of past tokens in the continuous cache.
        progress: see `components.evaluate.measure.perplexities`.
    """

    def tokens(text: str) -> np.ndarray:
        return encode_text(text, loaded.tokenizer, loaded.trained_bos)

    beginning = tokens(_beginning(texts["validation"]))

    def report(done: int, total: int) -> None:
        progress(protocol, "the beginning of validation", done, total)

    scorer: Scorer
    if protocol == DYNAMIC:
        training_text = _beginning(next(read_pieces(train, 4 * _CHARACTERS), b"").decode())
        scorer, grid = _choose_dynamic(loaded.scorer, tokens(training_text), beginning, report)
        fixed: dict[str, float] = {"segment": scorer.stride}
    else:
        scorer, grid = _choose_cache(loaded.scorer, cache_size, beginning, report)
        fixed = {"size": cache_size}
    splits = {
        split: score_text(
            text,
            PROTOCOL,
            scorer,
            loaded.tokenizer,
            trained_bos=loaded.trained_bos,
            progress=lambda done, total, split=split: progress(protocol, split, done, total),  # type: ignore[misc]
        )
        for split, text in texts.items()
    }
    parameters = {name: value for name, value in _best(grid).items() if name != "token_perplexity"}
    return AdaptedScores(ADAPTIVE[protocol], parameters | fixed, grid, len(beginning) - 1, splits)


def _choose_dynamic(
    scorer: Scorer, training_text: np.ndarray, beginning: np.ndarray, report: Callable[[int, int], None]
) -> tuple[DynamicScorer, tuple[dict[str, float], ...]]:
    """Chooses the learning rate first, with a middle decay, and then the decay."""
    scale, middle = gradient_scale(scorer, training_text), len(_DECAYS) // 2
    grid: list[dict[str, float]] = []

    def adapting(learning_rate: float, decay: float) -> DynamicScorer:
        return DynamicScorer(**vars(scorer), scale=scale, learning_rate=learning_rate, decay=decay)

    @cache
    def perplexity(learning_rate: float, decay: float) -> float:
        [score] = adapting(learning_rate, decay).score([beginning], progress=report)
        found = exp_mean(float(score.nll.sum()), int(score.scored.sum()))
        grid.append({"learning_rate": learning_rate, "decay": decay, "token_perplexity": found})
        return found if math.isfinite(found) else math.inf

    rate = _descend(_LEARNING_RATES, len(_LEARNING_RATES) // 2, lambda rate: perplexity(rate, _DECAYS[middle]))
    _descend(_DECAYS, middle, lambda decay: perplexity(rate, decay))
    best = _best(grid)
    return adapting(best["learning_rate"], best["decay"]), tuple(grid)


def _descend(values: Sequence[float], start: int, measure: Callable[[float], float]) -> float:
    """Returns the value with the lowest measure on the way from the one at `start` up, or else down, while it falls."""
    lowest, at = measure(values[start]), start
    for direction in (1, -1):
        while 0 <= at + direction < len(values) and (found := measure(values[at + direction])) < lowest:
            lowest, at = found, at + direction
        if at != start:
            break
    return values[at]


def _choose_cache(
    scorer: Scorer, size: int, beginning: np.ndarray, report: Callable[[int, int], None]
) -> tuple[CacheScorer, tuple[dict[str, float], ...]]:
    """Chooses flatness and weight together: the model and the cache are computed once for all of them."""
    score, cached = CacheScorer(**vars(scorer), size=size).compare(beginning, _FLATNESSES, progress=report)
    grid = tuple(
        {
            "flatness": flatness,
            "weight": weight,
            "token_perplexity": exp_mean(float(mixed_nll(score.nll, by_cache, weight).sum()), int(score.scored.sum())),
        }
        for flatness, by_cache in zip(_FLATNESSES, cached, strict=True)
        for weight in _WEIGHTS
    )
    best = _best(grid)
    return CacheScorer(**vars(scorer), size=size, flatness=best["flatness"], weight=best["weight"]), grid


def _best(grid: Sequence[dict[str, float]]) -> dict[str, float]:
    """The row with the lowest perplexity; one that diverged has NaN and is never the best unless all have."""
    return min(grid, key=lambda row: row["token_perplexity"] if math.isfinite(row["token_perplexity"]) else math.inf)


def _beginning(text: str) -> str:
    """The first whole lines of a text, or the first characters of a long line."""
    end = text.rfind("\n", 0, _CHARACTERS) + 1
    return text if len(text) <= _CHARACTERS else text[: end or _CHARACTERS]


def _unsuitable(what: str, protocol: str) -> Failure:
    return Failure(
        what, where="evaluate.protocols", remedy=f"leave out {protocol} for this model", exit_code=ExitCode.USAGE
    )
