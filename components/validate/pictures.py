"""The figures of the validation report: lengths, vocabulary, overlap, drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from components.shared.report.report import BAD, INK, MUTED, SERIES, WARN, Html, figure, logarithmic, plain_text, plots
from components.shared.text.articles import SPLITS
from components.validate.corpus import Corpus
from components.validate.results import Result
from components.validate.settings import ValidateSettings
from components.validate.statistics import distinct_words, unknown_rate, unseen_rate

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Tables = Mapping[tuple[str, str], "pd.DataFrame"]
_COLOURS = dict(zip(SPLITS, SERIES, strict=False))
# A picture with a dot for each of many more articles would be as large as a text.
_MOST_DOTS = 2_000
_GOLDEN = 0.6180339887  # its multiples spread evenly over the unit interval, however many there are


def lengths(tables: Tables, word: str) -> Html:
    """Draws the words per line and per article, by split; `word` is the name of the unit in the plural."""
    longest = max(tables[split, "lines"]["words"].max() for split in SPLITS)
    bins = np.unique(np.geomspace(1, max(longest, 2), 40).round())
    with plots(f"{word.title()} per line that is not empty", f"{word.title()} per article", height=2.8) as (
        lines,
        articles,
    ):
        for row, split in enumerate(SPLITS):
            words = tables[split, "lines"]["words"].to_numpy()
            counts = np.histogram(words[words > 0], bins)[0]
            lines.stairs(counts / counts.sum(), bins, color=_COLOURS[split], label=split, linewidth=1.4)
            _dots(articles, tables[split, "articles"]["words"].to_numpy(), row, _COLOURS[split])
        lines.legend(loc="upper left")
        lines.yaxis.set_major_formatter(_percent)
        _name_rows(articles)
        for axes in (lines, articles):
            logarithmic(axes, "x")
    return figure(
        lines,
        "Left: the share of lines by length. Right: a dot for each article, a bar at the median.",
        alt="Distributions of the lengths of lines and of articles, by split",
    )


def vocabulary(corpus: Corpus) -> Html:
    """Draws the growth of the vocabulary, and the share of words that the train split does not contain."""
    words = corpus.words_are
    titles = (f"Distinct {words} by {words} read", f"{words.title()} not in train")
    with plots(*titles, height=2.6) as (growth, rates):
        for row, split in enumerate(SPLITS):
            growth.plot(*distinct_words(corpus, split), color=_COLOURS[split], label=split)
            unknown, unseen = 100 * unknown_rate(corpus, split), 100 * unseen_rate(corpus, split)
            rates.barh(row, unknown, 0.5, color=_COLOURS[split])
            rates.barh(row, unseen, 0.5, left=unknown, color=_COLOURS[split], alpha=0.45)
            text = f"{unknown:.2f} % + {unseen:.2f} %"
            rates.annotate(text, (unknown + unseen, row), (6, 0), textcoords="offset points", va="center")
        growth.legend(loc="lower right")
        growth.xaxis.set_major_formatter(_count)
        growth.yaxis.set_major_formatter(_count)
        _name_rows(rates)
        rates.margins(x=0.4)
        rates.set_xticks([])
        rates.spines["bottom"].set_visible(False)
    return figure(
        growth,
        f"Right: the share of {words} that are <unk> and, paler, of {words} that train does not contain.",
        alt="Growth of the vocabulary, and the rates of unknown and of unseen words, by split",
    )


def overlap(tables: Tables, settings: ValidateSettings) -> Html:
    """Draws the overlap of each held-out article with the earlier splits."""
    with plots("", height=1.7) as [axes]:
        for row, split in enumerate(SPLITS[1:]):
            articles = tables[split, "articles"]
            shares = articles["overlap"].to_numpy()
            _dots(axes, 100 * shares, row, _COLOURS[split])
            if shares.size and shares.max() > 0.25:
                title = plain_text(articles["title"][shares.argmax()])
                axes.annotate(title, (100 * shares.max(), row), (-6, 6), textcoords="offset points", ha="right")
        for limit, colour, name in (
            (settings.near_duplicate, WARN, "near-duplicate"),
            (settings.max_overlap, BAD, "too much"),
        ):
            axes.axvline(100 * limit, color=colour, linewidth=1, dashes=(4, 3))
            axes.annotate(name, (100 * limit, -0.6), (3, 3), textcoords="offset points", color=colour)
        _name_rows(axes, SPLITS[1:])
        axes.set_xlim(-2, 102)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f} %")
    return figure(
        axes,
        "A dot for each article: the share of its runs of words that an earlier split contains.",
        alt="Overlap of each article of validation and test with the earlier splits, and the limits",
    )


def drift(results: Sequence[Result]) -> Html:
    """Draws the relative difference of each statistic of the train split from the champion's corpus."""
    names: list[str] = []
    with plots("", height=2.4) as [axes]:
        for each in results:
            if not each.low or not each.high or each.observed is None:
                continue  # a relative difference needs positive limits
            row, middle = len(names), (each.low + each.high) / 2
            axes.plot([each.low / middle - 1, each.high / middle - 1], [row, row], color=MUTED, linewidth=6, alpha=0.3)
            axes.plot([each.observed / middle - 1], [row], "o", color=SERIES[0] if each.success else WARN)
            names.append(each.column)
        axes.axvline(0, color=MUTED, linewidth=0.8)
        _name_rows(axes, names)
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:+.0f} %" if value else "equal")
    return figure(
        axes,
        "Each statistic of the train split relative to the champion's corpus; the bars are the tolerated range.",
        alt="Relative change of the statistics of the train split against the champion's corpus",
    )


def _dots(axes: Axes, values: np.ndarray, row: int, colour: str) -> None:
    if not len(values):
        return
    shown = values
    if len(values) > _MOST_DOTS:  # quantiles, with the smallest and the largest value
        shown = np.sort(values)[np.linspace(0, len(values) - 1, _MOST_DOTS).astype(np.int64)]
    spread = row + 0.5 * ((np.arange(len(shown)) * _GOLDEN) % 1 - 0.5)
    axes.plot(shown, spread, "o", color=colour, markersize=2.4, alpha=0.55, markeredgewidth=0)
    axes.plot([np.median(values)] * 2, [row - 0.36, row + 0.36], color=INK, linewidth=1.2)


def _name_rows(axes: Axes, names: Sequence[str] = SPLITS) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False)


def _count(value: float, _: object) -> str:
    return f"{value:,.0f}"


def _percent(value: float, _: object) -> str:
    return f"{100 * value:.0f} %"
