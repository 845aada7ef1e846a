"""The summary of a run: a JSON document, and the same as a short table."""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from components.shared.report.measures import format_measure
from components.shared.tracking.registry import read_registry
from pipelines.config.paths import shorten
from pipelines.config.settings import RunSettings
from pipelines.local.home import Home, tracking_uri
from pipelines.local.run import Result

_SCORES = (
    ("Word perplexity", "word_perplexity", 2),
    ("Token perplexity", "token_perplexity", 2),
    ("Bits per byte", "bits_per_byte", 4),
)
_LABEL, _GAP = 16, 2  # columns of the longest label, and between label and value


def document(result: Result, settings: RunSettings, home: Home) -> dict[str, Any]:
    """The outcome of a run as one JSON document. `version` is the same as in `wikigpt models --json`."""
    decision, version = result.decision or {}, _version(result, home)
    return {
        "run": result.run,
        "profile": settings.profile,
        "status": _status(result),
        "exit_code": int(result.exit_code),
        "corpus": decision.get("corpus"),
        "reuse_key": decision.get("reuse_key"),
        "decision": decision.get("action"),
        "reason": decision.get("reason"),
        "version": version,
        "seconds": result.seconds,
        "reused": result.reused,
        "reports": result.reports or _reports_of(version, home),
        "log": result.log,
        "failure": result.failure,
    }


def print_summary(summary: dict[str, Any], console: Console, *, model_option: bool) -> None:
    """Prints the document as a table, and the next commands.

    Args:
        summary: the document.
        console: the console, of any width. A long value takes several lines.
        model_option: whether the commands need `--model` for the model of the run.
    """
    table = Table(box=None, show_header=False, padding=(0, _GAP, 0, 0), pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    row = table.add_row
    row("Corpus", summary["corpus"] or "")
    version = summary["version"]
    if version:
        aliases = ", ".join(version["aliases"]) or "no alias"
        row("Model", f"{version['name']} version {version['version']} ({aliases})")
        for label, key, places in _SCORES:
            if version[key] is not None:
                row(label, f"{format_measure(version[key], places)} on test")
    row("Decision", f"{summary['decision']}: {summary['reason']}")
    if summary["reused"]:
        row("Reused", "\n".join(f"{step}: {what}" for step, what in summary["reused"].items()))
    room = console.width - _LABEL - _GAP
    row("Seconds", _seconds(summary["seconds"], room))
    if summary["reports"]:
        row("Reports", _paths(summary["reports"].values(), room))
    row("Log", _paths([summary["log"]], room))
    console.print(Text(f"Wiki-GPT · {summary['run']} · {summary['status']}", style="bold"))
    console.print(table)
    model = f" --model {shlex.quote(version['name'])}" if version and model_option else ""
    console.print(Text.assemble(("wikigpt ui", "bold"), " opens MLflow; this writes text:"))
    console.print(Text(f'wikigpt generate{model} "The castle was built in"', style="bold"), soft_wrap=True)


def needs_model_option(summary: dict[str, Any], home: Home) -> bool:
    """Whether commands need `--model` for the model of a run, because the registry has several models."""
    if not summary["version"]:
        return False
    from pipelines.registry.references import is_default

    with read_registry(tracking_uri(home)) as registry:
        return not is_default(registry, summary["version"]["name"])


def _seconds(seconds: dict[str, float], room: int) -> str:
    """The seconds of all steps and of each one, in lines that break between steps only."""
    each = ", ".join(f"{step}\u00a0{value:.1f}" for step, value in seconds.items())
    text = f"{sum(seconds.values()):.1f} in total: {each}" if seconds else ""
    return textwrap.fill(text, max(room, _LABEL), break_on_hyphens=False).replace("\u00a0", " ")


def _paths(paths: Iterable[str], room: int) -> str:
    """Paths relative to the working folder. If one is longer than the room, each folder has a line, then each file."""
    short = [shorten(path) for path in paths]
    if all(cell_len(path) <= room for path in short):
        return "\n".join(short)
    folders: dict[str, list[str]] = {}
    for folder, slash, name in (path.rpartition("/") for path in short):
        folders.setdefault(folder + slash, []).append(name)
    return "\n".join(line for folder, names in folders.items() for line in (folder, *names))


def _status(result: Result) -> str:
    if result.interrupted:
        return "interrupted"
    if result.failure is not None:
        return "failed"
    return "skipped" if result.decision_action == "skip" else "trained"


def _version(result: Result, home: Home) -> dict[str, Any] | None:
    """The model version that the run created or found, as the registry has it now."""
    if result.failure is not None or result.exit_code or result.decision is None:
        return None
    from pipelines.registry.models import models

    number = (result.registered or result.decision).get("version")
    if number is None:
        return None
    with read_registry(tracking_uri(home)) as registry:
        rows = models(registry, result.decision["model_name"])
    return next((asdict(row) for row in rows if row.version == str(number)), None)


def _reports_of(version: dict[str, Any] | None, home: Home) -> dict[str, str]:
    """The reports of the run that created a version, if it ran in this home."""
    folder = home.runs / version["pipeline_run"] if version else None
    if folder is None or not (folder / "result.json").is_file():
        return {}
    recorded = json.loads((folder / "result.json").read_text(encoding="utf-8"))["reports"]
    # The reports are in the folder of result.json. An earlier version recorded absolute paths, which a move of the
    # home makes wrong.
    return {step: str(folder / Path(path).name) for step, path in recorded.items()}
