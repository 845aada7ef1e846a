"""The command, as a person runs it, in the process of the test."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator

import pytest

from pipelines.cli.app import main
from pipelines.config.process_environment import child_variables

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Runs `wikigpt` with arguments, and returns exit code, stdout and stderr."""
    monkeypatch.delenv("WIKIGPT_CORPUS", raising=False)
    threshold = gc.get_threshold()  # the command sets another one
    for name, value in child_variables().items():  # the command also sets them, and does not reset them
        monkeypatch.setenv(name, value)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["wikigpt", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    yield run
    gc.set_threshold(*threshold)
