"""Tables of trials for the pages, from docs/trials.jsonl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from docs.generator.markdown import code, table

FILE = Path(__file__).parents[1] / "trials.jsonl"
# The time of a trial: of the processors in the trials before `wikigpt sweep`, of the clock since.
_SECONDS = {"processor_seconds": "processor seconds", "seconds": "seconds"}
# Settings that do not change what is learned.
_UNIMPORTANT = {"log_every", "evaluate_every", "validation_tokens", "threads", "precision", "context"}


def trials_table(settings: str, conditions: str) -> str:
    """The trials that fulfil some conditions, the best first, with some of their settings.

    Args:
        settings: the names of the settings that the table shows, with blanks between them.
        conditions: `key=value` with blanks between them, where `key=` is a setting with its default, and `tokens` and
            `profile` count as settings.

    Raises:
        ValueError: no trial fulfils the conditions, or a setting that differs among them is not shown.
    """
    wanted = dict(each.split("=", 1) for each in conditions.split())
    found = [trial for trial in _every() if all(_value(trial, key) == value for key, value in wanted.items())]
    names = settings.split()
    if len({tuple(_value(trial, name) for name in names) for trial in found}) != len(found) or not found:
        raise ValueError(
            f"{len(found)} trials fulfil {conditions!r}, and the settings {settings!r} do not tell them apart"
        )
    found.sort(key=lambda trial: trial["word_perplexity"])
    rows = [
        [*(_value(trial, name) for name in names), f"{trial['word_perplexity']:.1f}", f"{trial['processor_seconds']:,}"]
        for trial in found
    ]
    return table((*map(code, names), "validation word perplexity", "processor seconds"), rows)


def every_trial_table(profile: str) -> str:
    """All trials of a profile, the best first. Of the settings, those are shown that differ among them."""
    found = sorted((t for t in _every() if t["profile"] == profile), key=lambda trial: trial["word_perplexity"])
    if not found:
        raise ValueError(f"there is no trial of the profile {profile!r}")
    names = sorted({name for trial in found for name in trial["changed"]} - _UNIMPORTANT)
    names = [name for name in names if len({_value(trial, name) for trial in found}) > 1 or len(found) == 1]
    heads = ("validation word perplexity", *_SECONDS.values(), "tokens", "parameters", "machine", *map(code, names))
    return table(
        heads,
        [
            [
                f"{trial['word_perplexity']:.2f}",
                *(f"{trial[name]:,}" if name in trial else "" for name in _SECONDS),
                f"{trial['tokens']:,}",
                f"{trial['parameters']:,}",
                f"{trial['machine']}, {trial['numerics']['precision']}",
                *(_value(trial, name) for name in names),
            ]
            for trial in found
        ],
    )


def _every() -> list[dict[str, Any]]:
    return [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]


def _value(trial: dict[str, Any], name: str) -> str:
    """A setting as text; "" for its default."""
    value = trial[name] if name in ("profile", "tokens") else trial["changed"].get(name, "")
    return value if isinstance(value, str) else json.dumps(value)
