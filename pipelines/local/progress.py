"""Shows the progress of a run: a line with a bar per step, or plain lines without a terminal."""

from __future__ import annotations

from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from components.shared.base.failure import ExitCode
from pipelines.steps import TITLES

_TITLE = max(map(len, TITLES.values()))
_BAR, _WIDE_BAR = 10, 24
_WIDE = 100  # columns from which a bar is wide
_OTHERS = _TITLE + 12  # the width of spinner, title, time and the blanks between the columns
_PARTS = 4  # of the training; without a terminal, there is a line at the start of each


class ProgressView:
    """Shows events. Use it as a context manager around the loop over the events."""

    def __init__(self, console: Console):
        self.console = console
        self.live = console.is_terminal
        bar = _WIDE_BAR if console.width >= _WIDE else _BAR
        self.progress = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn(f"{{task.description:<{_TITLE}}}", markup=False),
            BarColumn(bar_width=bar),
            TimeElapsedColumn(),
            _NoteColumn(console, taken=_OTHERS + bar),
            console=console,
            disable=not self.live,
        )
        self.tasks: dict[str, Any] = {}
        self.part = -1

    def __enter__(self) -> ProgressView:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        for task in self.tasks.values():
            self.progress.stop_task(task)
        self.progress.stop()

    def show(self, event: dict[str, Any]) -> None:
        """Shows one event of a step. Events that are not meant for people are ignored."""
        kind, step = event["event"], event.get("step", "")
        if kind == "step-started":
            self.tasks[step] = self.progress.add_task(TITLES.get(step, step), total=None, parts=[])
            self._print_plain(f"{TITLES.get(step, step)} …")
        elif kind == "progress" and step in self.tasks:
            self._advance(step, event)
        elif kind == "note":
            self.say(event["text"])
        elif kind == "decision":
            self.say(f"{event['action']}: {event['reason']}")
        elif kind == "step-finished":
            self.progress.update(self.tasks[step], total=1, completed=1, parts=[])
            self._print_plain(f"{TITLES.get(step, step)}: {event['seconds']:.1f} s")
        elif kind == "step-failed":
            ended = "interrupted" if event["exit_code"] == ExitCode.RESUMABLE else "failed"
            self.progress.update(self.tasks[step], parts=[], ended=ended)
            self.progress.stop_task(self.tasks[step])
            self._print_plain(f"{TITLES.get(step, step)}: {ended} after {event['seconds']:.1f} s")

    def _advance(self, step: str, event: dict[str, Any]) -> None:
        done, total, parts = event["done"], event.get("total"), _numbers(event)
        self.progress.update(self.tasks[step], completed=done, total=total, parts=parts)
        if step == "train" and total and self.part < (part := _PARTS * done // total) < _PARTS:
            self.part = part
            self._print_plain(f"{TITLES[step]}: {100 * done / total:.0f} % · {' · '.join(parts)}")

    def say(self, text: str) -> None:
        """Prints a line between the bars."""
        self.console.print(Text(text, style="dim"))

    def _print_plain(self, text: str) -> None:
        if not self.live:
            self.console.print(Text(text), soft_wrap=True)


class _NoteColumn(ProgressColumn):
    """How a step ended, or the first of its numbers that fit beside the bar, without markup.

    Args:
        console: the console, whose width may change.
        taken: the width of the other columns.
    """

    def __init__(self, console: Console, *, taken: int):
        super().__init__()
        self.console, self.taken = console, taken

    def render(self, task: Task) -> Text:
        if ended := task.fields.get("ended"):
            return Text(ended, style="red")
        parts = list(task.fields["parts"])
        while parts and cell_len(" · ".join(parts)) > self.console.width - self.taken:
            parts.pop()
        return Text(" · ".join(parts), style="dim")


def _numbers(event: dict[str, Any]) -> list[str]:
    """Formats the numbers of a progress event, the most important first."""
    parts = []
    if event.get("eta") is not None:
        parts.append(f"{_duration(event['eta'])} left")
    if event.get("split"):
        parts.append(f"{event['split']} by {event['protocol']}")
    if event.get("loss") is not None:
        parts.append(f"loss {event['loss']:.3f}")
    if event.get("validation_perplexity") is not None:
        parts.append(f"validation ppl {event['validation_perplexity']:.1f}")
    if event.get("tokens_per_second"):
        parts.append(f"{event['tokens_per_second']:,.0f} tokens/s")
    return parts


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
