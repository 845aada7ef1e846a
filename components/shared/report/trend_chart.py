"""The picture of a trend over versions, as a PNG or SVG file in the style of the reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from components.shared.report.report import (
    INK,
    LINE,
    MUTED,
    SERIES,
    light_colours,
    number,
    picture_file,
    plain_text,
    plots,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Kind = Literal["png", "svg"]
_FEW = 25  # versions; for more, the marks are smaller


class Point(Protocol):
    """One version, see `components.shared.tracking.trend.TrendPoint`."""

    @property
    def version(self) -> int: ...
    @property
    def word_perplexity(self) -> float | None: ...
    @property
    def measure(self) -> float | None: ...
    @property
    def interval(self) -> tuple[float, float] | None: ...
    @property
    def tokens(self) -> float | None: ...
    @property
    def gpu_seconds(self) -> float | None: ...
    @property
    def train_seconds(self) -> float | None: ...
    @property
    def is_champion(self) -> bool: ...


def trend_chart(points: Sequence[Point], model: str, kind: Kind) -> bytes:
    """Draws perplexity with the gate's interval, tokens and GPU-seconds by version.

    Args:
        points: the versions, the oldest first; at least one.
        model: the name of the registered model.
        kind: the format of the file.

    Returns:
        The content of the file.
    """
    words = any(point.word_perplexity is not None for point in points)
    on_gpus = any(point.gpu_seconds for point in points)
    titles = (
        f"{'Word perplexity' if words else 'Bits per byte'} on validation",
        "Tokens seen in training",
        "GPU-seconds" if on_gpus else "Seconds of training, without a GPU",
    )
    with plots(*titles, height=2.9, light=True) as axes:
        _scores(axes[0], points)
        _bars(axes[1], points, [point.tokens for point in points])
        _bars(axes[2], points, [point.gpu_seconds if on_gpus else point.train_seconds for point in points])
        for each in axes:
            _versions(each, points)
        if any(point.interval for point in points):
            axes[0].set_xlabel("version; a line is the gate's interval")
        axes[0].figure.suptitle(plain_text(model), x=0.01, ha="left", color=light_colours()[INK])
        return picture_file(axes[0], kind)


def _scores(axes: Axes, points: Sequence[Point]) -> None:
    shown = [(place, point, point.measure) for place, point in enumerate(points) if point.measure is not None]
    places, values = [place for place, *_ in shown], [value for *_, value in shown]
    axes.plot(places, values, color=light_colours()[LINE], linewidth=1, zorder=1)
    size = 6 if len(points) <= _FEW else 3
    for place, point, value in shown:
        colour = _colour(point)
        if point.interval:
            axes.vlines(place, *point.interval, color=colour, linewidth=size / 2, alpha=0.35)
        axes.plot(place, value, "o", color=colour, markersize=size, zorder=3)
        if point.is_champion or len(points) == 1:
            axes.annotate(
                f"{number(value)}{' (champion)' if point.is_champion else ''}",
                (place, min(value, *(point.interval or (value,)))),
                (0, -6),
                textcoords="offset points",
                ha="right" if place > len(points) / 2 else "left",
                va="top",
                color=light_colours()[INK],
            )
    axes.margins(y=0.3)


def _bars(axes: Axes, points: Sequence[Point], values: Sequence[float | None]) -> None:
    colours = [_colour(point) for point in points]
    axes.bar(range(len(points)), [value or 0 for value in values], color=colours, width=0.6, alpha=0.85)
    if not any(values):
        axes.annotate("not recorded", (0.5, 0.5), xycoords="axes fraction", ha="center", color=light_colours()[MUTED])
        axes.set_yticks([])
    else:
        axes.yaxis.set_major_formatter(lambda value, _: _short(value))


def _colour(point: Point) -> str:
    return light_colours()[SERIES[1] if point.is_champion else SERIES[0]]


def _versions(axes: Axes, points: Sequence[Point]) -> None:
    every = max(1, len(points) // 8)
    places = range(len(points) - 1, -1, -every)
    axes.set_xticks(list(places), [str(points[place].version) for place in places])
    axes.set_xlim(-0.7, len(points) - 0.3)
    axes.set_xlabel("version")


def _short(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g}"
