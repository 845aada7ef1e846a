"""Output for people shows names unchanged, in 40 columns and without a terminal."""

from __future__ import annotations

import os
from dataclasses import fields
from io import StringIO
from typing import Any

import pytest
import typer
from rich.cells import cell_len
from rich.console import Console

from pipelines.cli.app import app
from pipelines.cli.registry import _print_models
from pipelines.cli.screen import console, correct_widths, print_plan
from pipelines.local.doctor import Finding, print_findings
from pipelines.local.progress import ProgressView
from pipelines.local.summary import print_summary
from pipelines.planned_changes import Change
from pipelines.registry.models import ModelRow
from tests.pipelines.conftest import Command

# Rich reads the first as a colour, the second as the end of a colour, and the third as an emoji.
ODD = "[red]a[/red] [/] :bug: [bold"
PATH = "/tmp/[red]b:bug:/[/]"


def row(**values: Any) -> ModelRow:
    known = {field.name: "" for field in fields(ModelRow)} | {
        "name": "wikigpt-wikitext-2-raw-v1", "version": "12", "aliases": ["champion"], "word_perplexity": 1156.12,
        "token_perplexity": 880.08, "bits_per_byte": 1.4241, "corpus": "wikitext-2-raw-v1",
    }  # fmt: skip
    return ModelRow(**(known | values))


def show_models() -> None:
    _print_models([row(), row(version="9", aliases=["challenger", "nightly"], word_perplexity=None), row(name=ODD)])


def show_findings() -> None:
    missing = Finding("Hugging Face Hub", False, f"no answer {ODD} at {PATH}", "corpora and weights by name")
    print_findings([missing, Finding("Store", True, PATH)], console())


def show_plan() -> None:
    print_plan([Change(f"delete blob {ODD} of {PATH}", lambda: None)] * 3)


def show_summary() -> None:
    version = {"name": ODD, "version": "1", "aliases": [], "word_perplexity": 1.0, "token_perplexity": 1.0}
    summary = {
        "run": f"20261123-{ODD}", "status": "trained", "corpus": ODD, "version": version | {"bits_per_byte": None},
        "decision": "train", "reason": f"of {ODD}", "reused": {"train": ODD}, "seconds": {"train": 9e5},
        "reports": {"evaluate": PATH}, "log": PATH,
    }  # fmt: skip
    print_summary(summary, console(), model_option=True)


def show_progress() -> None:
    with ProgressView(console()) as view:
        view.show({"event": "step-started", "step": "train"})
        view.show({"event": "progress", "step": "train", "done": 1, "total": 2, "split": ODD, "protocol": ODD})
        view.show({"event": "note", "text": f"{ODD} {PATH}"})
        view.show({"event": "step-failed", "step": "train", "exit_code": 1, "seconds": 1.0})


SHOWN = [show_models, show_findings, show_plan, show_summary, show_progress]


@pytest.mark.parametrize("show", SHOWN)
def test_a_name_with_brackets_is_shown_as_it_is(show, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    show()
    out = capsys.readouterr().out
    assert ODD in out
    assert PATH in out or show is show_models


@pytest.mark.parametrize("show", SHOWN)
@pytest.mark.parametrize("columns", ["40", "20", "0", "1", "²", "-5", "99999999999", ""])
def test_it_fits_the_width_that_there_is(show, columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    correct_widths()
    show()
    out = capsys.readouterr().out
    width = int(os.environ.get("COLUMNS", 80))
    # Commands to be copied, lines for a log and planned changes, one per line, are not broken; terminals do it.
    whole = ("wikigpt generate", "Train the model", "delete blob")
    long = [line for line in out.splitlines() if cell_len(line) > width and not line.startswith(whole)]
    assert out and long == []


@pytest.mark.parametrize("columns", ["80", "60"])
def test_no_name_of_the_models_is_broken_over_two_lines(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    show_models()
    _print_models([row(name="wikigpt-wikipedia-of-tonight", corpus="hf://team-language/wikipedia of tonight")])
    lines = capsys.readouterr().out.splitlines()
    assert "wikigpt-wikitext-2-raw-v1  corpus wikitext-2-raw-v1" in lines
    one, two = "wikigpt-wikipedia-of-tonight", "  corpus hf://team-language/wikipedia of tonight"
    assert one + two in lines if columns == "80" else (one in lines and two in lines)
    assert "     12 champion            1156.12 880.08 1.4241" in [line.rstrip() for line in lines]


def test_bars_fit_a_terminal_of_40_columns():
    screen = StringIO()
    narrow = Console(file=screen, width=40, force_terminal=True, color_system=None, markup=False, legacy_windows=False)
    with ProgressView(narrow) as view:
        view.show({"event": "step-started", "step": "train"})
        view.show({"event": "progress", "step": "train", "done": 1, "total": 2, "split": ODD, "protocol": "x"})
        view.show({"event": "step-failed", "step": "train", "exit_code": 1, "seconds": 1.0})
    assert "Train the model" in screen.getvalue()


def every_command(command: Any = None, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    command = command or typer.main.get_command(app)
    inner = getattr(command, "commands", {})
    return [path, *(each for name in inner for each in every_command(inner[name], (*path, name)))]


@pytest.mark.parametrize("columns", ["40", "0", "²", "99999999999"])
def test_the_help_of_every_command_fits(command: Command, columns: str, monkeypatch):
    for path in every_command():
        monkeypatch.setenv("COLUMNS", columns)
        code, out, _ = command(*path, "--help")
        assert (code, "Usage" in out) == (0, True)
        assert max(map(cell_len, out.splitlines())) <= (40 if columns == "40" else 500)


def test_an_error_of_usage_shows_the_argument_as_it_is(command: Command):
    _, _, err = command("models", "[red]extra")
    assert "([red]extra)" in err
