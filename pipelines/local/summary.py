"""The summary of a run: a JSON document, and the same as a short table."""

from __future__ import annotations

import json
import shlex
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from components.download.corpora import MODEL
from components.shared.report.measures import format_measure
from pipelines.config.settings import RunSettings
from pipelines.local.home import Home, tracking_uri
from pipelines.local.run import Result
from pipelines.steps import TITLES

_SCORES = (
    ("Word perplexity", "word_perplexity", 2),
    ("Token perplexity", "token_perplexity", 2),
    ("Bits per byte", "bits_per_byte", 4),
)


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


def print_summary(summary: dict[str, Any], console: Console) -> None:
    """Prints the document as a table."""
    title = f"Wiki-GPT · {summary['run']} · {summary['status']}"
    table = Table(title=Text(title, style="table.title"), show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    row = table.add_row
    row("Corpus", summary["corpus"] or "")
    if version := summary["version"]:
        aliases = ", ".join(version["aliases"]) or "no alias"
        row("Model", f"{version['name']} version {version['version']} ({aliases})")
        for label, key, places in _SCORES:
            if version[key] is not None:
                row(label, f"{format_measure(version[key], places)} on test")
    row("Decision", f"{summary['decision']}: {summary['reason']}")
    if summary["reused"]:
        row("Reused", "\n".join(f"{step}: {what}" for step, what in summary["reused"].items()))
    row("Seconds", _seconds(summary["seconds"]))
    for step, path in summary["reports"].items():
        row(f"Report: {step}", _short(path))
    row("Log", _short(summary["log"]))
    console.print(table)
    name = version["name"] if version else MODEL
    model = "" if name == MODEL else f" --model {shlex.quote(name)}"
    console.print(Text.assemble(("wikigpt ui", "bold"), " opens MLflow; this writes text:"))
    console.print(Text(f'wikigpt generate{model} "The castle was built in"', style="bold"), soft_wrap=True)


def _seconds(seconds: dict[str, float]) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(min_width=8, overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    for step, value in seconds.items():
        table.add_row(TITLES.get(step, step), f"{value:.1f}")
    return table


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
    from components.shared.tracking.run import connect, translate_mlflow_errors
    from pipelines.registry.models import row_of_number

    number = (result.registered or result.decision).get("version")
    if number is None:
        return None
    client = connect(tracking_uri(home))
    with translate_mlflow_errors(client):
        return asdict(row_of_number(client, result.decision["model_name"], number))


def _reports_of(version: dict[str, Any] | None, home: Home) -> dict[str, str]:
    """The reports of the run that created a version, if it ran in this home."""
    folder = home.runs / version["pipeline_run"] if version else None
    if folder is None or not (folder / "result.json").is_file():
        return {}
    recorded = json.loads((folder / "result.json").read_text(encoding="utf-8"))["reports"]
    # The reports are in the folder of result.json. An earlier version recorded absolute paths, which a move of the
    # home makes wrong.
    return {step: str(folder / Path(path).name) for step, path in recorded.items()}


def _short(path: str) -> str:
    """The path relative to the working folder, if it is below it."""
    with suppress(FileNotFoundError, ValueError):  # the working folder was deleted, or is another one
        return str(Path(path).relative_to(Path.cwd()))
    return path
