"""Shows the progress of a run: a line with a bar per step, or plain lines without a terminal."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from components.shared.base.failure import ExitCode
from pipelines.steps import TITLES

_PLAIN_EVERY = 10.0  # seconds


class ProgressView:
    """Shows events. Use it as a context manager around the loop over the events."""

    def __init__(self, console: Console):
        self.console = console
        self.live = console.is_terminal
        self.progress = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description:<28}", markup=False),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            _NoteColumn(),
            console=console,
            disable=not self.live,
        )
        self.tasks: dict[str, Any] = {}
        self.last_printed = 0.0

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
            self.tasks[step] = self.progress.add_task(TITLES.get(step, step), total=None, note="")
            self._print_plain(f"{TITLES.get(step, step)} …")
        elif kind == "progress" and step in self.tasks:
            self._advance(step, event)
        elif kind == "note":
            self.say(event["text"])
        elif kind == "decision":
            self.say(f"{event['action']}: {event['reason']}")
        elif kind == "step-finished":
            self.progress.update(self.tasks[step], total=1, completed=1, note="")
            self._print_plain(f"{TITLES.get(step, step)}: {event['seconds']:.1f} s")
        elif kind == "step-failed":
            ended = "interrupted" if event["exit_code"] == ExitCode.RESUMABLE else "failed"
            self.progress.update(self.tasks[step], note=Text(ended, style="red"))
            self.progress.stop_task(self.tasks[step])
            self._print_plain(f"{TITLES.get(step, step)}: {ended} after {event['seconds']:.1f} s")

    def _advance(self, step: str, event: dict[str, Any]) -> None:
        note = _numbers(event)
        self.progress.update(self.tasks[step], completed=event["done"], total=event.get("total"), note=note)
        if time.monotonic() - self.last_printed > _PLAIN_EVERY:
            total = event.get("total")
            share = f"{100 * event['done'] / total:3.0f} %  " if total else ""
            self._print_plain(f"  {share}{note}")

    def say(self, text: str) -> None:
        """Prints a line between the bars."""
        self.console.print(Text(text, style="dim"))

    def _print_plain(self, text: str) -> None:
        if not self.live:
            self.last_printed = time.monotonic()
            self.console.print(Text(text), soft_wrap=True)


class _NoteColumn(ProgressColumn):
    """The note of a step, without markup."""

    def render(self, task: Task) -> Text:
        note = task.fields["note"]
        return note if isinstance(note, Text) else Text(note, style="dim")


def _numbers(event: dict[str, Any]) -> str:
    """Formats the numbers of a progress event."""
    parts = []
    if event.get("split"):
        parts.append(f"{event['split']} by {event['protocol']}")
    if event.get("loss") is not None:
        parts.append(f"loss {event['loss']:.3f}")
    if event.get("validation_perplexity") is not None:
        parts.append(f"validation ppl {event['validation_perplexity']:.1f}")
    if event.get("tokens_per_second"):
        parts.append(f"{event['tokens_per_second']:,.0f} tokens/s")
    if event.get("eta") is not None:
        parts.append(f"{event['eta']:.0f} s left")
    return " · ".join(parts)
