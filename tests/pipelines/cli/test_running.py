"""What `wikigpt run` says at the end of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.shared.base.failure import Failure
from pipelines.local import numerics
from pipelines.local import run as local_run
from pipelines.local.run import Result
from tests.pipelines.conftest import Command


@pytest.fixture
def a_failed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of a run, a log with the traceback of one that failed."""
    log = tmp_path / "home" / "runs" / "r" / "log.txt"

    def execute(*_: Any) -> Result:
        log.parent.mkdir(parents=True)
        log.write_text('text\nTraceback (most recent call last):\n  x\n{"event": "step-failed", "step": "train"}\n')
        failure = Failure("ValueError: no", where="step train", remedy="see the traceback in the log of the step")
        return Result(run="r", log=str(log), exit_code=failure.exit_code, failure=failure.to_dict())

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(local_run, "execute", execute)
    monkeypatch.setattr(numerics, "pin_numerics", lambda settings, home: settings)


@pytest.mark.usefixtures("a_failed_run")
def test_a_run_that_failed_names_the_lines_of_the_log(command: Command) -> None:
    code, out, err = command("run", "--home", "home")
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "Lines 2 to 4 of home/runs/r/log.txt say why the run failed.",
        "wikigpt: ValueError: no (step train): see the traceback in the log of the step.",
    ]


@pytest.mark.usefixtures("a_failed_run")
def test_its_document_is_alone_on_stdout(command: Command) -> None:
    code, out, err = command("run", "--home", "home", "--json")
    document = json.loads(out)
    assert (code, document["status"], document["failure"]["what"]) == (1, "failed", "ValueError: no")
    assert "Lines 2 to 4" in err
