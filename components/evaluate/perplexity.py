"""Computes the perplexity of a split by a protocol from one float64 sum of negative log-likelihood."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from components.evaluate.scoring import Scorer
from components.evaluate.texts import PROTOCOLS, Cut, ProtocolText, wikitext_word
from components.shared.text.units import Unit, exp_mean


@dataclass(frozen=True)
class ArticleScore:
    """The score of one article, or of another piece of the text.

    Attributes:
        title: the title of the piece, see `Piece`.
        nll: the negative log-likelihood of its tokens, in nats.
        words: the number of words, as the protocol counts them.
        tokens: the number of scored tokens.
        bytes: the number of bytes of the original text.
    """

    title: str
    nll: float
    words: int
    tokens: int
    bytes: int


@dataclass(frozen=True)
class Score:
    """The score of a split by a protocol.

    Attributes:
        nll: the negative log-likelihood of all scored tokens, in nats.
        tokens: the number of tokens of the text.
        scored_tokens: the number of tokens in the sum; tokens without context are not scored.
        words: the number of words; None if the protocol does not count words.
        bytes: the number of bytes of the original text.
        token_perplexity: exp(nll / scored tokens); comparable for the same tokenizer only.
        word_perplexity: exp(nll / words); None for a text without spaces between words, see `unit`.
        bits_per_byte: nll / (ln 2 * bytes).
        text_sha256: the SHA-256 of the split as released.
        bos: the id of the unscored token before each sequence, or None.
        unit: the unit of the gate's comparison, word or byte.
        cut: the kind of pieces in `articles`.
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


@dataclass(frozen=True)
class TokenScores:
    """The scores of the single tokens of a split, in the order of the text, without tokens that were not scored.

    Attributes:
        ids: the id of each token, int64 [tokens].
        nll: its negative log-likelihood in nats, float64 [tokens].
        articles: the number of tokens of each article, or other piece, int64 [articles].
    """

    ids: np.ndarray
    nll: np.ndarray
    articles: np.ndarray


def score_text(
    text: str,
    protocol: str,
    scorer: Scorer,
    tokenizer: Any,
    *,
    trained_bos: int | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Score:
    """Returns the score of a split, see `score_text_by_token`."""
    score, _ = score_text_by_token(text, protocol, scorer, tokenizer, trained_bos=trained_bos, progress=progress)
    return score


def score_text_by_token(
    text: str,
    protocol: str,
    scorer: Scorer,
    tokenizer: Any,
    *,
    trained_bos: int | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Score, TokenScores]:
    """Scores each token of a split once.

    Args:
        text: the split as released.
        protocol: a name among `PROTOCOLS`.
        scorer: the model.
        tokenizer: the fast tokenizer of transformers that it was trained with.
        trained_bos: the token that separated texts in training; None if there was no such token.
        progress: see `Scorer.score`.
    """
    plan = PROTOCOLS[protocol](text)
    if not plan.strides:
        scorer = replace(scorer, stride=scorer.window)
    bos = _bos(plan, tokenizer, trained_bos)
    ids, lengths = _encode_all(tokenizer, plan)
    first = _first(bos)
    groups = [np.concatenate(ids)] if plan.joined else ids
    sequences = [np.concatenate([first, group]) for group in groups]
    parts = scorer.score(sequences, rolling=plan.rolling, progress=progress)
    nll = np.concatenate([part.nll[len(first) :] for part in parts])
    scored = np.concatenate([part.scored[len(first) :] for part in parts])
    total, count = float(nll.sum()), int(scored.sum())
    articles = _by_article(plan, lengths, nll, scored)
    score = Score(
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
        articles=articles,
    )
    counts = np.array([article.tokens for article in articles], dtype=np.int64)
    return score, TokenScores(np.concatenate(ids)[scored], nll[scored], counts)


def encode_text(text: str, tokenizer: Any, trained_bos: int | None) -> np.ndarray:
    """Returns the tokens of a text as `wikitext-word` scores them: one sequence, int64 [tokens]."""
    plan = wikitext_word(text)
    return np.concatenate([_first(_bos(plan, tokenizer, trained_bos)), *_encode_all(tokenizer, plan)[0]])


def _first(bos: int | None) -> np.ndarray:
    return np.array([] if bos is None else [bos], dtype=np.int64)


def _bos(plan: ProtocolText, tokenizer: Any, trained_bos: int | None) -> int | None:
    if plan.bos == "never":
        return None
    if plan.bos == "trained":
        return trained_bos
    return tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id


def _encode_all(tokenizer: Any, plan: ProtocolText) -> tuple[list[np.ndarray], list[int]]:
    """Returns the tokens of each document, and the number of tokens of each piece."""
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
    """Returns the same tokens, each with the offset of its first character in the text."""
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
