"""The changes that a command would make, in order. `--plan` prints them, and the command applies them.

A command plans all its changes before it makes any. `descriptions` and `apply_changes` are the only two functions
that read such a list, so what `--plan` prints is what the command applies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar


class Refused(Exception):
    """A change could not be applied, and the changes after it do not need it. The text says why, as a sentence."""


class PlannedChange(Protocol):
    """One change to the registry, the store, the home or the server."""

    @property
    def description(self) -> str:
        """The change in the imperative, such as `delete checkpoint 8f3c/00000010`. It holds no line break."""

    def apply(self) -> None:
        """Makes the change.

        Raises:
            Failure: the command cannot continue.
            Refused: the change was not made, and the command can continue.
        """


@dataclass(frozen=True)
class Change:
    """A planned change that a function makes."""

    description: str
    make: Callable[[], object] = field(repr=False, compare=False)

    def apply(self) -> None:
        self.make()


Planned = TypeVar("Planned", bound=PlannedChange)


@dataclass(frozen=True)
class Execution(Generic[Planned]):
    """The outcome of a list of planned changes.

    Attributes:
        applied: the changes that were applied, in order.
        refused: why other changes were not applied, each reason once.
    """

    applied: tuple[Planned, ...]
    refused: tuple[str, ...]


def descriptions(changes: Iterable[PlannedChange]) -> list[str]:
    """Lists what `apply_changes` would apply, and changes nothing."""
    return [change.description for change in changes]


def apply_changes(changes: Iterable[Planned], report: Callable[[str], object] = lambda _: None) -> Execution[Planned]:
    """Applies the changes in order.

    Args:
        changes: the planned changes of one command.
        report: a function that is called with the description of each change after it was applied.

    Raises:
        Failure: a change failed. The changes before it stay applied.
    """
    applied: list[Planned] = []
    refused: dict[str, None] = {}
    for change in changes:
        try:
            change.apply()
        except Refused as refusal:
            refused[str(refusal)] = None
        else:
            applied.append(change)
            report(change.description)
    return Execution(tuple(applied), tuple(refused))
