"""The progress of a run: plain lines if the output is piped, bars in a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from pipelines.local import progress
from pipelines.local.progress import ProgressView
from pipelines.steps import TITLES

STARTED = {"event": "step-started", "step": "train"}
FINISHED = {"event": "step-finished", "step": "train", "seconds": 12.34}
PROGRESS = {
    "event": "progress",
    "step": "train",
    "done": 50,
    "total": 200,
    "loss": 4.5678,
    "validation_perplexity": 148.41,
    "tokens_per_second": 12345.6,
    "eta": 93.4,
}


def shown(*events: dict[str, Any], terminal: bool = False) -> str:
    output = io.StringIO()
    console = Console(file=output, width=100, force_terminal=terminal, color_system=None)
    with ProgressView(console) as view:
        for event in events:
            view.show(event)
    return output.getvalue()


def test_a_pipe_gets_one_line_when_a_step_begins_and_one_when_it_ends() -> None:
    assert shown(STARTED, FINISHED).splitlines() == [f"{TITLES['train']} …", f"{TITLES['train']}: 12.3 s"]


def test_a_line_of_progress_has_the_share_and_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PLAIN_EVERY", -1.0)
    line = shown(STARTED, PROGRESS).splitlines()[1]
    assert line == "   25 %  loss 4.568 · validation ppl 148.4 · 12,346 tokens/s · 93 s left"


def test_a_pipe_gets_no_line_for_each_event_of_progress() -> None:
    assert len(shown(STARTED, *[PROGRESS] * 100, FINISHED).splitlines()) == 2


def test_a_progress_without_a_total_has_no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PLAIN_EVERY", -1.0)
    counted = {"event": "progress", "step": "train", "done": 7, "loss": 2.0}
    assert shown(STARTED, counted).splitlines()[1] == "  loss 2.000"


@pytest.mark.parametrize(("exit_code", "word"), [(1, "failed"), (75, "interrupted")])
def test_a_step_that_ends_early_says_how(exit_code: int, word: str) -> None:
    failed = {"event": "step-failed", "step": "train", "seconds": 3.0, "exit_code": exit_code}
    assert shown(STARTED, failed).splitlines()[-1] == f"{TITLES['train']}: {word} after 3.0 s"
    assert word in shown(STARTED, failed, terminal=True)


def test_notes_and_decisions_are_shown_as_they_are() -> None:
    """Square brackets are no markup."""
    note = {"event": "note", "text": "the corpus [red]wiki[/red] came from [/tmp]"}
    decision = {"event": "decision", "action": "train", "reason": "a new [corpus]"}
    assert shown(note, decision).splitlines() == [note["text"], "train: a new [corpus]"]


def test_a_terminal_gets_a_bar_with_the_title_and_the_numbers() -> None:
    last = shown(STARTED, PROGRESS, terminal=True)
    assert TITLES["train"] in last
    assert "validation ppl 148.4" in last


def test_progress_of_a_step_that_did_not_begin_is_passed_over() -> None:
    assert shown(PROGRESS) == ""
