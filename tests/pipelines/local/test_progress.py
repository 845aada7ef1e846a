"""The progress of a run: plain lines if the output is piped, bars in a terminal."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

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


def shown(*events: dict[str, Any], terminal: bool = False, width: int = 120) -> str:
    output = io.StringIO()
    console = Console(file=output, width=width, force_terminal=terminal, color_system=None)
    with ProgressView(console) as view:
        for event in events:
            view.show(event)
    return output.getvalue()


def test_a_pipe_gets_one_line_when_a_step_begins_and_one_when_it_ends() -> None:
    assert shown(STARTED, FINISHED).splitlines() == [f"{TITLES['train']} …", f"{TITLES['train']}: 12.3 s"]


def test_a_line_of_progress_has_the_share_and_the_numbers() -> None:
    line = shown(STARTED, PROGRESS).splitlines()[1]
    assert line == f"{TITLES['train']}: 25 % · 93 s left · loss 4.568 · validation ppl 148.4 · 12,346 tokens/s"


def test_a_pipe_gets_the_first_loss_and_three_lines_for_a_whole_training() -> None:
    lines = shown(STARTED, *[PROGRESS | {"done": done} for done in range(1, 201)], FINISHED).splitlines()
    said = ["…", "0 %", "25 %", "50 %", "75 %", "12.3 s"]
    assert [line.split(" · ")[0].removeprefix(TITLES["train"]).strip(" :") for line in lines] == said


def test_a_pipe_gets_no_line_of_progress_for_the_other_steps() -> None:
    events = (
        {"step": "evaluate"} | {key: value for key, value in e.items() if key != "step"} for e in (STARTED, FINISHED)
    )
    started, finished = events
    scored = {"event": "progress", "step": "evaluate", "done": 9, "total": 10, "split": "test", "protocol": "word"}
    assert len(shown(started, scored, scored, finished).splitlines()) == 2


def test_a_progress_without_a_total_is_no_line() -> None:
    assert len(shown(STARTED, {"event": "progress", "step": "train", "done": 7, "loss": 2.0}).splitlines()) == 1


@pytest.mark.parametrize(
    ("left", "text"), [(0.4, "0 s left"), (119, "119 s left"), (600, "10 min left"), (9e3, "2.5 h left")]
)
def test_a_long_time_is_said_in_minutes_or_hours(left: float, text: str) -> None:
    assert f" {text} " in shown(STARTED, PROGRESS | {"eta": left})


@pytest.mark.parametrize(
    ("width", "numbers", "without"),
    [
        (60, "93 s left", "loss"),
        (80, "93 s left · loss 4.568", "validation"),
        (120, "93 s left · loss 4.568 · validation ppl 148.4", "tokens/s"),
        (140, "93 s left · loss 4.568 · validation ppl 148.4 · 12,346 tokens/s", "…"),
    ],
)
def test_a_terminal_shows_the_numbers_that_fit_beside_the_bar_as_a_whole(
    width: int, numbers: str, without: str
) -> None:
    screen = re.sub(r"\x1b\[[0-9?]*[A-Za-z]", "", shown(STARTED, PROGRESS, terminal=True, width=width))
    last = [line for line in screen.replace("\r", "\n").splitlines() if TITLES["train"] in line][-1]
    assert numbers in last and "━" in last
    assert without not in last
    assert cell_len(last) <= width


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
