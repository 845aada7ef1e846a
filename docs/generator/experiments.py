"""Tables of experiments for the log, from docs/experiments: each file has the trials of one sweep."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from docs.generator.markdown import code, table

FOLDER = Path(__file__).parents[1] / "experiments"
_SEED = "train.seed"


def experiment_table(name: str) -> str:
    """The trials of `docs/experiments/NAME.jsonl`, those that differ only in the seed as one row, the best first.

    Raises:
        ValueError: there is no such experiment, or its trials are not of one sweep.
    """
    path = FOLDER / f"{name}.jsonl"
    if not path.is_file():
        raise ValueError(f"there is no docs/experiments/{name}.jsonl: write it by wikigpt sweep --record")
    trials = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    origin = {(trial["command"], trial["machine"], trial["numerics"]["precision"]) for trial in trials}
    if len(origin) != 1:
        raise ValueError(f"docs/experiments/{name}.jsonl has trials of {len(origin)} sweeps, machines or precisions")
    groups: dict[str, list[dict[str, Any]]] = {}
    for trial in trials:
        settings = {key: value for key, value in trial["varied"].items() if key != _SEED}
        groups.setdefault(json.dumps(settings), []).append(trial)
    names = list(json.loads(next(iter(groups))))
    rows = [[*_settings(key, names), *_measured(group)] for key, group in groups.items()]
    rows.sort(key=lambda row: float(row[len(names) + 1]))
    heads = (*map(code, names), "seeds", "validation word perplexity", "lowest to highest", "seconds of training")
    ((command, machine, precision),) = origin
    dates = sorted({trial["date"] for trial in trials})
    when = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    return f"{table(heads, rows)}\n\n{code(command)}: {when}; {machine}, {precision}."


def names() -> list[str]:
    """The names of all experiments."""
    return sorted(path.stem for path in FOLDER.glob("*.jsonl"))


def _settings(key: str, names: list[str]) -> list[str]:
    values = json.loads(key)
    return [value if isinstance(value := values[name], str) else json.dumps(value) for name in names]


def _measured(trials: list[dict[str, Any]]) -> list[str]:
    found = [trial["word_perplexity"] for trial in trials]
    seconds = statistics.mean(trial["seconds"] for trial in trials)
    return [
        str(len(found)),
        f"{statistics.mean(found):.2f}",
        f"{min(found):.2f} to {max(found):.2f}",
        f"{seconds:,.0f}",
    ]
