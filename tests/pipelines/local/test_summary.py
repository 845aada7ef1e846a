"""The summary of a run, as a document and as a table."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from components.shared.base.failure import ExitCode
from pipelines.cli.screen import console
from pipelines.config.settings import load
from pipelines.local.home import Home, open_home
from pipelines.local.run import Result
from pipelines.local.summary import document, print_summary

DECISION = {"action": "train", "reason": "a new corpus", "corpus": "sample", "reuse_key": "1" * 32}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


def printed(summary: dict[str, Any], width: int = 100) -> str:
    """The text in the console of the commands."""
    screen = console()
    screen.file, screen.width = io.StringIO(), width
    print_summary(summary, screen)
    return screen.file.getvalue()


def of(home: Home, **values: Any) -> dict[str, Any]:
    return document(Result(run="run-1", log=str(home.runs / "run-1" / "log"), **values), load("quick"), home)


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"failure": {"what": "no"}, "exit_code": ExitCode.FAILED}, "failed"),
        ({"interrupted": True, "exit_code": ExitCode.RESUMABLE}, "interrupted"),
        ({"decision": DECISION | {"action": "skip", "version": None}}, "skipped"),
        ({"decision": DECISION}, "trained"),
    ],
)
def test_the_status_follows_from_the_result(home: Home, values: dict[str, Any], status: str) -> None:
    assert of(home, **values)["status"] == status


def test_a_run_that_failed_before_its_decision_is_a_document_too(home: Home) -> None:
    summary = of(home, failure={"what": "no disk"}, exit_code=ExitCode.FAILED)
    assert (summary["decision"], summary["corpus"], summary["version"]) == (None, None, None)
    assert json.loads(json.dumps(summary))["failure"] == {"what": "no disk"}
    assert "run-1 · failed" in printed(summary)


def test_reports_of_an_earlier_run_are_in_its_folder(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.local import summary as module

    folder = home.runs / "earlier"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps({"reports": {"evaluate": "/an/older/home/runs/earlier/page.html"}}))
    monkeypatch.setattr(module, "_version", lambda *_: {"pipeline_run": "earlier"})
    assert of(home, decision=DECISION | {"action": "skip"})["reports"] == {"evaluate": str(folder / "page.html")}


def version(**values: Any) -> dict[str, Any]:
    return {
        "name": "wikigpt-sample", "version": "3", "aliases": ["champion"], "word_perplexity": 148.414,
        "token_perplexity": None, "bits_per_byte": 1.42413, **values,
    }  # fmt: skip


def test_the_table_has_the_scores_that_there_are(home: Home) -> None:
    summary = of(home, decision=DECISION, seconds={"train": 109.2}) | {"version": version()}
    text = printed(summary)
    assert "wikigpt-sample version 3 (champion)" in text
    assert "148.41 on test" in text
    assert "1.4241 on test" in text
    assert "Token perplexity" not in text
    assert "109.2" in text
    assert 'wikigpt generate --model wikigpt-sample "The castle' in text


def test_a_version_without_an_alias_says_so(home: Home) -> None:
    assert "version 3 (no alias)" in printed(of(home, decision=DECISION) | {"version": version(aliases=[])})


def test_brackets_in_names_are_no_markup(home: Home) -> None:
    summary = of(home, decision=DECISION | {"corpus": "[bold]odd[/bold]", "reason": "because [/x]"})
    text = printed(summary)
    assert "[bold]odd[/bold]" in text
    assert "train: because [/x]" in text


@pytest.mark.parametrize("width", [40, 60])
def test_the_table_fits_a_narrow_screen(home: Home, width: int) -> None:
    summary = of(home, decision=DECISION, seconds={"download": 3.0, "train": 109.2}) | {"version": version()}
    table = printed(summary, width).split("wikigpt ui")[0]
    assert max(map(len, table.splitlines())) <= width
