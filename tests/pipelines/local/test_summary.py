"""The summary of a run, as a document and as a table."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from components.shared.base.failure import ExitCode
from pipelines.cli.screen import console
from pipelines.config.settings import load
from pipelines.local.home import Home, open_home
from pipelines.local.run import Result
from pipelines.local.summary import document, print_summary
from pipelines.steps import STEPS

DECISION = {"action": "train", "reason": "a new corpus", "corpus": "sample", "reuse_key": "1" * 32}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


def printed(summary: dict[str, Any], width: int = 100, *, model_option: bool = True) -> str:
    """The text in the console of the commands."""
    screen = console()
    screen.file, screen.width = io.StringIO(), width
    print_summary(summary, screen, model_option=model_option)
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


def test_the_hint_names_the_model_only_if_it_is_needed(home: Home) -> None:
    summary = of(home, decision=DECISION) | {"version": version()}
    assert printed(summary, model_option=False).splitlines()[-1] == 'wikigpt generate "The castle was built in"'


def test_the_seconds_are_one_row(home: Home) -> None:
    seconds = dict.fromkeys(STEPS, 1.25) | {"train": 118.5}
    text = printed(of(home, decision=DECISION, seconds=seconds), 60)
    assert "126.0 in total: download 1.2," in text
    assert not re.search(r"[a-z]$", next(line for line in text.splitlines() if "126.0 in" in line).strip())
    assert len(text.split("Seconds")[1].split("Log")[0].splitlines()) <= 5


RUN = ".wikigpt/runs/20261127-182337-a8c4"


def a_summary(folder: Path) -> dict[str, Any]:
    """A summary whose values are as long as those of a run with a release of WikiText-2."""
    run = folder / RUN
    return {
        "run": run.name, "status": "trained", "corpus": "wikitext-2-raw-v1", "decision": "train",
        "reason": "no version, model or checkpoint exists for these inputs",
        "version": version(name="wikigpt-wikitext-2-raw-v1", version="112", aliases=["challenger", "champion"]),
        "reused": {"tokenize": "the tokens of 0123456789abcdef0123456789abcdef"},
        "seconds": dict.fromkeys(STEPS, 1234.5),
        "reports": {"validate": str(run / "validation.html"), "evaluate": str(run / "evaluation.html")},
        "log": str(run / "log.txt"),
    }  # fmt: skip


@pytest.mark.parametrize("width", [40, 60, 80])
def test_the_table_fits_the_screen_and_cuts_no_value(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    summary = a_summary(tmp_path)
    table = printed(summary, width).split("wikigpt ui")[0]
    assert max(map(cell_len, table.splitlines())) <= width
    assert "…" not in table
    labels = r"^(Corpus|Model|[WT]\w+ perplexity|Bits per byte|Decision|Reused|Seconds|Reports|Log)"
    values = re.sub(r"\s", "", "".join(re.sub(labels, "", line) for line in table.splitlines()))
    version = summary["version"]
    of_steps = ",".join(f"{step}1234.5" for step in STEPS)
    names = ("validation.html", "evaluation.html")
    reports = [f"{RUN}/{name}" for name in names] if width == 80 else [f"{RUN}/{''.join(names)}"]
    for value in (
        summary["corpus"], f"{version['name']}version112(challenger,champion)", "148.41ontest", "1.4241ontest",
        f"train:{summary['reason']}".replace(" ", ""), "tokenize:thetokensof0123456789abcdef0123456789abcdef",
        f"8641.5intotal:{of_steps}", *reports,
        f"{RUN}/log.txt",
    ):  # fmt: skip
        assert value in values, value


@pytest.mark.parametrize("width", [60, 80])
def test_a_path_is_whole_on_its_line_or_has_its_name_on_the_next(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [line.strip() for line in printed(a_summary(tmp_path), width).splitlines()]
    assert ["Log", f"{RUN}/log.txt"] in [line.split() for line in lines]
    assert (f"{RUN}/evaluation.html" in lines) == (width == 80)
    assert ("evaluation.html" in lines) == (width == 60)
