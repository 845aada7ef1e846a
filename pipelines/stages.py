"""Stages: the changes that a command would make, in order. `--plan` prints them, and the command applies them.

A command builds one list of stages without changing anything. `descriptions` and `execute` are the only two functions
that read such a list, so what `--plan` prints is what the command applies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol


class Refused(Exception):
    """A stage could not be applied, and the stages after it do not need it. The text says why, as a sentence."""


class Stage(Protocol):
    """One change to the registry, the store, the home or the server."""

    @property
    def description(self) -> str:
        """The change in the imperative, such as `delete checkpoint 8f3c/00000010`. It holds no line break."""

    def apply(self) -> None:
        """Makes the change.

        Raises:
            Failure: the command cannot go on.
            Refused: the change was not made, and the command can go on.
        """


@dataclass(frozen=True)
class Change:
    """A stage that is made of a function."""

    description: str
    make: Callable[[], object] = field(repr=False, compare=False)

    def apply(self) -> None:
        self.make()


@dataclass(frozen=True)
class Execution:
    """The outcome of a list of stages.

    Attributes:
        applied: descriptions of the stages that were applied, in order.
        refused: why other stages were not applied, each reason once.
    """

    applied: tuple[str, ...]
    refused: tuple[str, ...]


def descriptions(stages: Iterable[Stage]) -> list[str]:
    """Lists what `execute` would apply, and changes nothing."""
    return [stage.description for stage in stages]


def execute(stages: Iterable[Stage], report: Callable[[str], object] = lambda _: None) -> Execution:
    """Applies the stages in order.

    Args:
        stages: the stages of one command.
        report: a function that is called with the description of each stage after the stage was applied.

    Raises:
        Failure: a stage failed. The stages before it stay applied.
    """
    applied: list[str] = []
    refused: dict[str, None] = {}
    for stage in stages:
        try:
            stage.apply()
        except Refused as refusal:
            refused[str(refusal)] = None
        else:
            applied.append(stage.description)
            report(stage.description)
    return Execution(tuple(applied), tuple(refused))
