"""After a failure, a person is told which lines of which log to read."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.local.log_lines import lines_of_failure, log_sentence

STARTED = '    {"event": "step-started", "step": "train"}'
FAILED = '    {"event": "step-failed", "step": "train", "what": "no", "exit_code": 1}'
TRACEBACK = ["    Traceback (most recent call last):", '      File "x.py", line 1', "    ValueError: no"]


def log(folder: Path, *lines: str) -> Path:
    path = folder / "log.txt"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_it_is_the_traceback_up_to_the_failure_of_the_step(tmp_path: Path) -> None:
    path = log(tmp_path, "begin", *TRACEBACK, STARTED, "text", *TRACEBACK, FAILED, "Task failed", *TRACEBACK)
    assert lines_of_failure(path) == (7, 10)


def test_of_a_chain_of_exceptions_it_is_the_first(tmp_path: Path) -> None:
    caused = "    The above exception was the direct cause of the following exception:"
    assert lines_of_failure(log(tmp_path, STARTED, *TRACEBACK, "", caused, "", *TRACEBACK, FAILED)) == (2, 11)


def test_a_failure_with_a_remedy_is_one_line(tmp_path: Path) -> None:
    assert lines_of_failure(log(tmp_path, *TRACEBACK, STARTED, "text", FAILED, "after")) == (6, 6)


def test_a_failure_of_notify_does_not_hide_that_of_the_run(tmp_path: Path) -> None:
    assert lines_of_failure(log(tmp_path, FAILED, FAILED.replace("train", "notify"))) == (1, 1)


def test_without_a_failure_it_is_the_end(tmp_path: Path) -> None:
    assert lines_of_failure(log(tmp_path, "a", "b", "c", STARTED, "d", "")) == (2, 5)


def test_lines_are_counted_as_editors_count_them(tmp_path: Path) -> None:
    assert lines_of_failure(log(tmp_path, STARTED, "10 %\r20 %\r30 %", FAILED)) == (3, 3)


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ((STARTED, FAILED), "Line 2 of log.txt says why the run failed."),
        ((STARTED, *TRACEBACK, FAILED), "Lines 2 to 5 of log.txt say why the run failed."),
        ((STARTED,), "No line of log.txt says why the run failed."),
    ],
)
def test_the_sentence_names_the_lines_and_the_log(
    lines: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert log_sentence(str(log(tmp_path, *lines))) == sentence
