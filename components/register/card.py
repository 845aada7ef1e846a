"""Writes the card of a version: the markdown that MLflow shows on the page of the version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, Template

from components.register.lineage import TrainedModel
from components.register.promotion import AliasDecision
from components.shared.report.measures import finite, format_measure
from components.shared.text.articles import HELD_OUT
from components.shared.tracking import registry

_SAMPLES = 3


def card(
    trained: TrainedModel,
    version: str,
    decision: AliasDecision,
    champion: Mapping[str, str] | None,
    tags: Mapping[str, str],
    signer: str | None = None,
) -> str:
    """Returns the card of a version as markdown.

    Args:
        trained: the trained model.
        version: the number of the version.
        decision: the verdict of the gate and the resulting alias.
        champion: the tags of the version that it was compared with, or None.
        tags: the tags of the version.
        signer: the fingerprint of the key that signs the version, or None.
    """
    adapted = trained.adapted_measures()
    return _template().render(
        trained=trained,
        version=version,
        decision=decision,
        champion=champion,
        repeats=tags.get(registry.REPEATS),
        start=tags.get(registry.WARM_START_FROM),
        teachers=tags.get(registry.DISTILLED_FROM),
        scores=_scores(trained, champion),
        adapted=[(f"{', '.join(each[:2])}, {each[2].replace('_', ' ')}", value) for each, value in adapted.items()],
        samples=(trained.scores.get("samples") or [])[:_SAMPLES],
        alias=registry.CHAMPION,
        signer=signer,
    )


def _scores(trained: TrainedModel, champion: Mapping[str, str] | None) -> Iterator[tuple]:
    """The rows of the table: a measure, its value for the version, and its value for the champion or None."""
    for split in HELD_OUT:
        for name in registry.MEASURES:
            ours = trained.measure(split, name)
            theirs = finite(champion.get(registry.score_tag(split, name))) if champion else None
            if ours is not None or theirs is not None:
                yield f"{split}, {name.replace('_', ' ')}", ours, theirs


def _number(value: float | None) -> str:
    return f"{value:.4g}" if value is not None and value < 10 else format_measure(value)


def _literal(text: str) -> str:
    """Escapes text of a corpus or a model, so that markdown shows it literally on one line."""
    escaped = "".join(f"\\{mark}" if mark in r"\`*_{}[]<()#+-!|~" else mark for mark in str(text))
    return " ".join(escaped.split())


@cache
def _template() -> Template:
    environment = Environment(trim_blocks=True, keep_trailing_newline=True)
    environment.filters |= {"thousands": "{:,.0f}".format, "number": _number, "literal": _literal}
    return environment.from_string((Path(__file__).parent / "card.md.jinja").read_text(encoding="utf-8"))
