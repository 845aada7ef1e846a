"""The figures of the evaluation report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from components.shared.report.report import (
    BAD,
    GOOD,
    INK,
    LINE,
    MUTED,
    SERIES,
    Html,
    figure,
    logarithmic,
    number,
    plain_text,
    plots,
)
from components.shared.text.units import Unit

Row = Mapping[str, Any]
Kind = Literal["this", "champion", "baseline", "published"]
MEASURES: dict[Unit, str] = {"word": "word perplexity", "byte": "bits per byte"}
_NAMED = 3
_TITLE_LENGTH = 34


@dataclass(frozen=True)
class ComparedModel:
    """A model in the comparison chart.

    Attributes:
        name: the name of the model.
        value: its word perplexity or bits per byte.
        kind: the kind of model, which decides how it is drawn.
    """

    name: str
    value: float
    kind: Kind


def comparison_chart(models: Sequence[ComparedModel], unit: Unit) -> Html:
    """Draws word perplexities, or bits per byte, one below the other, with the lowest at the bottom.

    Only perplexities need a logarithmic axis, because bits are logarithms already.
    """
    colours = {"this": SERIES[0], "champion": SERIES[1], "baseline": MUTED, "published": MUTED}
    ordered = sorted(models, key=lambda model: model.value)
    with plots("", height=0.7 + 0.3 * len(ordered)) as [axes]:
        start = 0.8 * ordered[0].value if unit == "word" else 0.0
        for place, model in enumerate(ordered):
            ours = model.kind in ("this", "champion")
            axes.plot([start, model.value], [place, place], color=colours[model.kind], linewidth=1.6 if ours else 0.8)
            axes.plot(model.value, place, "o", color=colours[model.kind], markersize=8 if ours else 5)
            axes.annotate(
                number(model.value), (model.value, place), (8, 0), textcoords="offset points", va="center", color=INK
            )
        if unit == "word":
            logarithmic(axes, "x")
        axes.set_xlim(start, 1.35 * ordered[-1].value)
        axes.set_ylim(-0.7, len(ordered) - 0.3)
        axes.set_yticks(range(len(ordered)), [plain_text(model.name) for model in ordered], color=INK)
        axes.grid(False)
    shown = "; ".join(f"{model.name} {number(model.value)}" for model in ordered)
    what = "Word perplexity on the test split, logarithmic" if unit == "word" else "Bits per byte on the test split"
    return figure(axes, f"{what}; lower is better.", alt=shown)


def training_curves(history: Sequence[Row], candidates: int | None = None) -> Html | None:
    """Draws training loss, validation loss and validation perplexity by step; returns None without a history.

    Args:
        history: the rows of the model's history.jsonl.
        candidates: the number of sampled-softmax candidates per step; None if the loss is over the whole vocabulary.
    """
    losses = [(row["step"], row["loss"]) for row in history if _finite(row.get("loss"))]
    checks = [(row["step"], row["validation_loss"]) for row in history if _finite(row.get("validation_loss"))]
    if not losses and not checks:
        return None
    with plots("Loss, nats per token", "Token perplexity on validation") as (left, right):
        if losses:
            left.plot(*zip(*losses, strict=True), color=SERIES[0], linewidth=1, alpha=0.8, label="training")
        if checks:
            left.plot(*zip(*checks, strict=True), "o-", color=SERIES[1], markersize=3.5, label="validation")
            steps, values = zip(*((step, math.exp(min(loss, 50))) for step, loss in checks), strict=True)
            right.plot(steps, values, "o-", color=SERIES[1], markersize=3.5)
            best = min(range(len(values)), key=values.__getitem__)
            right.annotate(
                number(values[best]), (steps[best], values[best]), (0, 9), textcoords="offset points", ha="center"
            )
            logarithmic(right, "y")
        left.legend()
        for axes in (left, right):
            axes.set_xlabel("step")
    best_loss = f", the best on validation {min(loss for _, loss in checks):.3f}" if checks else ""
    alt = f"Training loss falls from {losses[0][1]:.3f} to {losses[-1][1]:.3f}" if losses else "Validation loss"
    among = (
        f" Training loss is a sampled softmax with {candidates:,} candidates, so it is below the full loss."
        if candidates
        else ""
    )
    return figure(left, f"How training went. Perplexity on a logarithmic axis.{among}", alt=alt + best_loss)


def by_article(articles: Sequence[Row], unit: Unit) -> Html:
    """Draws the measure of each article in sorted order, and names the easiest and hardest articles."""
    scored = sorted(articles, key=lambda article: article_measure(article, unit))
    values = [article_measure(article, unit) for article in scored]
    with plots("", height=3.4) as [axes]:
        axes.vlines(range(len(values)), values[len(values) // 2], values, color=SERIES[0], alpha=0.35, linewidth=1)
        axes.scatter(range(len(values)), values, s=16, color=SERIES[0], zorder=3)
        for rank in range(min(_NAMED, len(values) // 2)):
            last = len(values) - 1 - rank
            _name(axes, rank, values[rank], scored[rank]["title"], GOOD, (0.38, 0.06 + 0.1 * rank), "left")
            _name(axes, last, values[last], scored[last]["title"], BAD, (0.62, 0.94 - 0.1 * rank), "right")
        if unit == "word":
            logarithmic(axes, "y")
        axes.set_xticks([])
        axes.set_ylabel(MEASURES[unit])
    low, middle, high = (number(values[place]) for place in (0, len(values) // 2, -1))
    alt = f"{len(values)} articles from {low} to {high}, median {middle}"
    return figure(axes, f"Every article of the test split, from easiest to hardest: {alt}.", alt=alt)


def against_champion(ours: Sequence[Row], theirs: Sequence[Row], verdict: Row) -> Html:
    """Draws the sorted differences of the validation articles, with the confidence interval of the mean."""
    pairs, size = zip(ours, theirs, strict=True), f"{verdict['unit']}s"
    gains = sorted((our["nll"] - their["nll"]) / our[size] for our, their in pairs if our[size])
    low, high = verdict["interval"]
    with plots("", height=2.6) as [axes]:
        axes.bar(range(len(gains)), gains, color=[GOOD if gain < 0 else BAD for gain in gains], alpha=0.75)
        axes.axhspan(low, high, color=SERIES[0], alpha=0.25)
        axes.axhline(verdict["difference"], color=SERIES[0], linewidth=1.2)
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.set_xticks([])
        axes.set_ylabel(f"nats per {verdict['unit']}")
    better = sum(gain < 0 for gain in gains)
    caption = (
        "Article by article on validation: below zero this model is better than the champion"
        f" ({better} of {len(gains)}). The band is the confidence interval of the mean difference, which the gate uses."
    )
    return figure(axes, caption, alt=f"Mean difference {verdict['difference']:+.4f}, from {low:+.4f} to {high:+.4f}")


def article_measure(article: Row, unit: Unit) -> float:
    """Computes the word perplexity or the bits per byte of one article."""
    if not article[f"{unit}s"]:
        return math.nan
    nats = article["nll"] / article[f"{unit}s"]
    return math.exp(min(nats, 500)) if unit == "word" else nats / math.log(2)


def _name(axes: Any, place: int, value: float, title: str, colour: str, at: tuple[float, float], align: str) -> None:
    """Labels a point with a text at a given position of the axes (0 to 1), so that labels do not overlap."""
    short = title if len(title) <= _TITLE_LENGTH else title[: _TITLE_LENGTH - 1].rstrip() + "…"
    axes.scatter([place], [value], s=26, color=colour, zorder=4)
    axes.annotate(
        f"{plain_text(short)}  {number(round(value) if value >= 100 else value)}",
        (place, value),
        at,
        textcoords="axes fraction",
        ha=align,
        va="center",
        color=INK,
        arrowprops={"arrowstyle": "-", "color": LINE, "linewidth": 0.8, "shrinkA": 2, "shrinkB": 4},
    )


def _finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)
