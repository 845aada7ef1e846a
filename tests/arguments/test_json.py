"""`--json` prints JSON: NaN and infinities, which only Python reads, become null."""

from __future__ import annotations

import ast
import inspect
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from mlflow import MlflowClient

from components.shared.tracking import registry
from pipelines.cli.app import app
from pipelines.cli.screen import print_json
from pipelines.local import doctor
from pipelines.local.doctor import Finding
from pipelines.local.home import open_home
from pipelines.local.run import Result
from tests.pipelines.conftest import Command
from tests.pipelines.registry.conftest import _filled, filled  # noqa: F401

INFINITE = [math.inf, -math.inf, math.nan]


def strictly(text: str) -> Any:
    """Parses JSON as every other language does."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


@dataclass(frozen=True)
class Thing:
    number: float
    inner: tuple[Any, ...]


def test_nan_and_infinities_are_null(capsys):
    print_json(
        {"a": INFINITE, 1: Thing(math.nan, (1, math.inf, {"b": {2.5}})), "when": datetime(2026, 1, 1, tzinfo=UTC)}
    )
    assert strictly(capsys.readouterr().out) == {
        "a": [None, None, None],
        "1": {"number": None, "inner": [1, None, {"b": [2.5]}]},
        "when": "2026-01-01 00:00:00+00:00",
    }


def test_a_name_that_is_no_text_is_written_all_the_same(capsys):
    print_json({"path": "caf\udce9", "home": Path("/tmp/é")})
    out = capsys.readouterr().out
    assert strictly(out) == {"path": "caf\\udce9", "home": "/tmp/é"}
    assert "\\ud" not in out.replace("\\\\ud", "")


def with_json(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The commands that have `--json`."""
    command = command or typer.main.get_command(app)
    for name, inner in getattr(command, "commands", {}).items():
        yield from with_json(inner, (*path, name))
    if any("--json" in parameter.opts for parameter in command.params):
        yield path, command.callback


COMMANDS = dict(with_json())


def test_the_commands_with_json():
    assert {" ".join(path) for path in COMMANDS} == {
        *("run", "check", "sweep", "models", "history", "ensemble", "verify", "mirror", "doctor", "submit", "status"),
        *("rollout", "schedule list"),
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_all_of_them_print_it_in_one_way(path):
    """The modules of commands print JSON in no other way."""
    function = inspect.unwrap(COMMANDS[path])
    names = {node.id for node in ast.walk(ast.parse(inspect.getsource(function))) if isinstance(node, ast.Name)}
    assert "print_json" in names
    assert "json" not in vars(sys.modules[function.__module__])


def test_models_with_an_infinite_perplexity(command: Command, filled: MlflowClient, tmp_path: Path):  # noqa: F811
    for measure, value in zip(registry.MEASURES, INFINITE, strict=True):
        filled.set_model_version_tag("wikigpt-sample", "1", registry.score_tag("test", measure), str(value))
    code, out, _ = command("models", "--json", "--home", tmp_path)
    (row,) = (row for row in strictly(out) if row["version"] == "1")
    assert (code, [row[measure] for measure in registry.MEASURES]) == (0, [None, None, None])
    code, out, _ = command("models", "--home", tmp_path)
    (line,) = (line for line in out.splitlines() if "champion" in line)
    assert (code, line.split()) == (0, ["1", "champion", "–", "–", "–"])


def test_a_run_with_an_infinite_perplexity(command: Command, tmp_path: Path, monkeypatch):
    from pipelines.local import summary

    home = open_home(tmp_path / "home")
    result = Result(
        "run-1", str(home.root / "log.txt"), decision={"action": "train", "reason": "r"}, seconds={"train": 1.0}
    )
    version = dict.fromkeys(registry.MEASURES, math.inf) | {
        "pipeline_run": "",
        "name": "n",
        "version": "1",
        "aliases": [],
    }
    monkeypatch.setattr("pipelines.local.run.execute", lambda *_: result)
    monkeypatch.setattr(summary, "_version", lambda *_: version)
    sets = ["--set", "train.precision=float32"]
    code, out, _ = command("run", "--json", "--corpus", "sample", "--home", home.root, *sets)
    assert (code, strictly(out)["version"]["word_perplexity"]) == (0, None)
    code, out, _ = command("run", "--corpus", "sample", "--home", home.root, *sets)
    assert (code, out.count("infinite on test")) == (0, 3)


@pytest.mark.parametrize("name", ["check", "doctor"])
def test_findings_are_json(command: Command, tmp_path: Path, monkeypatch, name: str):
    looked = [Finding("Store", False, "[red] \udce9", "all of it")]
    monkeypatch.setattr("pipelines.local.check.check_run", lambda *_: looked)
    monkeypatch.setattr(doctor, "examine", lambda *_: looked)
    arguments = ["--corpus", "sample"] if name == "check" else []
    code, out, _ = command(name, "--json", "--home", tmp_path / "home", *arguments)
    assert (code, strictly(out)["findings"][0]["seen"]) == (1, "[red] \\udce9")
