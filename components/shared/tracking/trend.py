"""The trend over the versions of a registered model, from their tags: perplexity, tokens and cost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.shared.report.measures import finite
from components.shared.tracking import registry

if TYPE_CHECKING:
    from components.shared.tracking.sqlite_registry import AnyVersion

MOST = 60  # versions; a picture with more of them is unreadable


@dataclass(frozen=True)
class TrendPoint:
    """One version.

    Attributes:
        version: its number.
        word_perplexity, bits_per_byte: on validation, by the protocol of the gate; None if the text has no such score.
        interval: the perplexity, or the bits per byte, at both ends of the gate's interval of the difference to the
            champion of that time; None if the gate compared it with none.
        tokens: the tokens that its training saw.
        gpu_seconds, train_seconds: its cost.
        is_champion: whether it is the champion.
    """

    version: int
    word_perplexity: float | None
    bits_per_byte: float | None
    interval: tuple[float, float] | None
    tokens: float | None
    gpu_seconds: float | None
    train_seconds: float | None
    is_champion: bool

    @property
    def measure(self) -> float | None:
        """Word perplexity; bits per byte of a text without words."""
        return self.bits_per_byte if self.word_perplexity is None else self.word_perplexity


def trend_of(versions: Iterable[AnyVersion], champion: str) -> list[TrendPoint]:
    """The newest `MOST` versions that have a score, the oldest first.

    Args:
        versions: the versions of a registered model.
        champion: the number of the champion; "" if there is none.
    """
    points = [_point(version, champion) for version in versions]
    return sorted((point for point in points if point.measure is not None), key=lambda point: point.version)[-MOST:]


def _point(version: AnyVersion, champion: str) -> TrendPoint:
    tags = version.tags
    words = finite(tags.get(registry.score_tag("validation", "word_perplexity")))
    bits = finite(tags.get(registry.score_tag("validation", "bits_per_byte")))
    return TrendPoint(
        version=int(version.version),
        word_perplexity=words,
        bits_per_byte=bits,
        interval=_interval(tags.get(registry.GATE_INTERVAL, ""), words, bits),
        tokens=finite(tags.get(registry.TOKENS_SEEN)),
        gpu_seconds=finite(tags.get(registry.GPU_SECONDS)),
        train_seconds=finite(tags.get(registry.TRAIN_SECONDS)),
        is_champion=str(version.version) == champion,
    )


def _interval(tag: str, words: float | None, bits: float | None) -> tuple[float, float] | None:
    """The measure of the champion of that time, changed by both ends of the interval of the difference in nats."""
    found = [finite(text) for text in tag.split()]
    if len(found) != 3 or None in found:
        return None
    difference, *ends = (float(value or 0) for value in found)
    if words is not None:
        low, high = (words * math.exp(end - difference) for end in ends)
        return low, high
    if bits is None:
        return None
    low, high = (bits + (end - difference) / math.log(2) for end in ends)
    return low, high
