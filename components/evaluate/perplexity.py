"""Perplexity of a split by a protocol, from one float64 sum of negative log-likelihood."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from components.evaluate.scoring import Scorer
from components.evaluate.texts import PROTOCOLS, Cut, ProtocolText
from components.shared.text.units import Unit, exp_mean


@dataclass(frozen=True)
class ArticleScore:
    """What one article, or another piece of the text, contributes.

    Attributes:
        title: see `Piece`.
        nll: nats over its tokens.
        words: by the protocol.
        tokens: that were scored.
        bytes: of the original text.
    """

    title: str
    nll: float
    words: int
    tokens: int
    bytes: int


@dataclass(frozen=True)
class Score:
    """A split by a protocol.

    Attributes:
        nll: nats over all scored tokens.
        tokens: of the text.
        scored_tokens: tokens that the sum is over: all, or less the few that have no context.
        words: None where the protocol counts none.
        bytes: of the original text.
        token_perplexity: exp(nll / scored tokens); comparable for the same tokenizer only.
        word_perplexity: exp(nll / words); None where words mean nothing, see `unit`.
        bits_per_byte: nll / (ln 2 * bytes).
        text_sha256: of the split as released.
        bos: id of the unscored token before each sequence, or None.
        unit: what the gate compares by, words or bytes.
        cut: how `articles` were made.
    """

    nll: float
    tokens: int
    scored_tokens: int
    words: int | None
    bytes: int
    token_perplexity: float
    word_perplexity: float | None
    bits_per_byte: float
    text_sha256: str
    window: int
    stride: int
    bos: int | None
    dtype: str
    unit: Unit
    cut: Cut
    articles: tuple[ArticleScore, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def score_text(
    text: str,
    protocol: str,
    scorer: Scorer,
    tokenizer: Any,
    *,
    trained_bos: int | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Score:
    """Scores a split, every token of it once.

    Args:
        text: the split as released.
        protocol: a name among `PROTOCOLS`.
        scorer: the model.
        tokenizer: the fast tokenizer of transformers that it was trained with.
        trained_bos: the token that separated texts in the model's training, None if there was none.
        progress: see `Scorer.score`.
    """
    plan = PROTOCOLS[protocol](text)
    if not plan.strides:
        scorer = replace(scorer, stride=scorer.window)
    bos = _bos(plan, tokenizer, trained_bos)
    ids, lengths = _encode_all(tokenizer, plan)
    first = np.array([] if bos is None else [bos], dtype=np.int64)
    groups = [np.concatenate(ids)] if plan.joined else ids
    sequences = [np.concatenate([first, group]) for group in groups]
    parts = scorer.score(sequences, rolling=plan.rolling, progress=progress)
    nll = np.concatenate([part.nll[len(first) :] for part in parts])
    scored = np.concatenate([part.scored[len(first) :] for part in parts])
    total, count = float(nll.sum()), int(scored.sum())
    return Score(
        nll=total,
        tokens=len(nll),
        scored_tokens=count,
        words=plan.words,
        bytes=plan.bytes,
        token_perplexity=exp_mean(total, count),
        word_perplexity=exp_mean(total, plan.words) if plan.words and plan.unit == "word" else None,
        bits_per_byte=total / (math.log(2) * plan.bytes) if plan.bytes else math.nan,
        text_sha256=hashlib.sha256(text.encode()).hexdigest(),
        window=scorer.window,
        stride=scorer.stride,
        bos=bos,
        dtype=scorer.dtype,
        unit=plan.unit,
        cut=plan.cut,
        articles=_by_article(plan, lengths, nll, scored),
    )


def _bos(plan: ProtocolText, tokenizer: Any, trained_bos: int | None) -> int | None:
    if plan.bos == "never":
        return None
    if plan.bos == "trained":
        return trained_bos
    return tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id


def _encode_all(tokenizer: Any, plan: ProtocolText) -> tuple[list[np.ndarray], list[int]]:
    """The tokens of each document, and how many of all of them belong to each piece."""
    if not plan.blocks:
        ids = [_encode(tokenizer, document.parts) for document in plan.documents]
        return ids, [len(part) for part in ids]
    [document] = plan.documents
    encoded, starts = _encode_with_starts(tokenizer, document.parts)
    first = np.searchsorted(starts, [block.start for block in plan.blocks])
    return [encoded], np.diff(first, append=len(encoded)).tolist()


def _encode(tokenizer: Any, parts: Sequence[str]) -> np.ndarray:
    encoded = tokenizer.backend_tokenizer.encode_batch_fast(list(parts), add_special_tokens=False)
    return np.array([token for part in encoded for token in part.ids], dtype=np.int64)


def _encode_with_starts(tokenizer: Any, parts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The same tokens, each with the character of the text at which it begins."""
    encoded = tokenizer.backend_tokenizer.encode_batch(list(parts), add_special_tokens=False)
    before = np.cumsum([0, *map(len, parts)])
    ids = np.array([token for part in encoded for token in part.ids], dtype=np.int64)
    starts = [start + begin for part, start in zip(encoded, before[:-1], strict=True) for begin, _ in part.offsets]
    return ids, np.maximum.accumulate(np.array(starts, dtype=np.int64))


def _by_article(
    plan: ProtocolText, lengths: list[int], nll: np.ndarray, scored: np.ndarray
) -> tuple[ArticleScore, ...]:
    bounds = np.cumsum(lengths)[:-1]
    parts = zip(plan.pieces, np.split(nll, bounds), np.split(scored, bounds), strict=True)
    return tuple(
        ArticleScore(piece.title, float(part.sum()), piece.words, int(counted.sum()), piece.bytes)
        for piece, part, counted in parts
    )
