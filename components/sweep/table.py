"""The table of the trials of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.sweep.trials import Trial

_MEASURED = {"train_seconds": "seconds", "tokens_seen": "tokens", "parameters": "parameters"}


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """The trials, the best first; those without a result come last."""
    return sorted(trials, key=lambda trial: (trial.word_perplexity is None, trial.word_perplexity or 0.0, trial.number))


def table_of(trials: Sequence[Trial]) -> tuple[list[str], list[list[str]]]:
    """The heads and the rows of the table: settings, validation word perplexity, measurements."""
    settings = list(dict.fromkeys(name for trial in trials for name in trial.values))
    measured = [name for name in _MEASURED if any(name in trial.metrics for trial in trials)]
    heads = ["trial", *settings, "validation word perplexity", *(_MEASURED[name] for name in measured)]
    rows = [
        [
            str(trial.number),
            *(_text(trial.values.get(name, "")) for name in settings),
            "none" if trial.word_perplexity is None else f"{trial.word_perplexity:.2f}",
            *(f"{trial.metrics[name]:,.0f}" if name in trial.metrics else "" for name in measured),
        ]
        for trial in ranked(trials)
    ]
    return heads, rows


def markdown(trials: Sequence[Trial]) -> str:
    """The table in Markdown."""
    heads, rows = table_of(trials)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heads, ["---"] * len(heads), *rows))


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
