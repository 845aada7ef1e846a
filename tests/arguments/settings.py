"""Every field of every settings class, and values that somebody might give it; generated from the types themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from components.shared.base.ranges import Limit, Range, limits_of
from pipelines.config.cluster import ClusterSettings, Toleration
from pipelines.config.resources import Quantity
from pipelines.config.settings import SECTIONS

# Further values that a section needs with the value that is tested.
NEEDED: dict[str, dict[str, Any]] = {"train": {"steps": 1}}
# Values of wrong types, and numbers that no setting accepts.
ODD: list[Any] = [
    *("", " ", "abc", "²", "1e", "0x10", "\0", "\ud800", "\N{RIGHT-TO-LEFT OVERRIDE}", "[red]", "x" * 100_000),
    *(None, True, [], [1], {}, {"a": 1}, {1: 2}, [[[]]], (1, 2)),
]
NUMBERS: list[Any] = [
    *(0, -1, 2**31, 2**63, 2**64, -(2**64), 10**30, 10**400, 1 << 20_000, "9" * 5000, "1e400"),
    *(0.0, -0.0, 0.5, -0.5, 5e-324, 1e-40, 1e19, 1e308, -1e308, math.nan, math.inf, -math.inf, "nan", "inf"),
]


@dataclass(frozen=True)
class Field:
    """A field that can be set.

    Attributes:
        section: the section of the settings.
        path: the keys below the section.
        hint: its type, as it is annotated.
        limit: the limit of its values, or None.
    """

    section: str
    path: tuple[str, ...]
    hint: Any
    limit: Limit | None

    @property
    def name(self) -> str:
        return ".".join([self.section, *self.path])

    @property
    def takes(self) -> set[Any]:
        """The plain types that it accepts."""
        return set(_plain(self.hint))

    def values(self, value: Any) -> dict[str, Any]:
        """The values of its section with a value of this field."""
        for key in reversed(self.path):
            value = {key: value}
        return {**NEEDED.get(self.section, {}), **value}

    def at_the_bounds(self) -> list[Any]:
        """Values that are valid on their own."""
        if isinstance(self.limit, Range | Quantity):
            return [self.limit.low, self.limit.high]
        return []

    def just_outside(self) -> list[Any]:
        if not isinstance(self.limit, Range):
            return ["0", "999Ei"] if isinstance(self.limit, Quantity) else []
        if int in self.takes:
            return [self.limit.low - 1, self.limit.high + 1]
        return [math.nextafter(self.limit.low, -math.inf), math.nextafter(self.limit.high, math.inf)]


def every_field() -> list[Field]:
    sections = {**SECTIONS, "cluster": ClusterSettings}
    return [field for section, kind in sections.items() for field in _fields(section, kind, ())]


def every_class() -> list[type]:
    """The settings classes, with those of the resources of steps."""
    below = {type(getattr(ClusterSettings(), field.name)) for field in fields(ClusterSettings)}
    return [*SECTIONS.values(), ClusterSettings, Toleration, *(kind for kind in below if is_dataclass(kind))]


def _fields(section: str, kind: type, path: tuple[str, ...]) -> Iterator[Field]:
    hints = get_type_hints(kind, include_extras=True)
    for field in fields(kind):  # type: ignore[arg-type]
        hint = hints[field.name]
        if is_dataclass(hint):
            yield from _fields(section, hint, (*path, field.name))  # type: ignore[arg-type]
        else:
            yield Field(section, (*path, field.name), hint, limits_of(kind).get(field.name))


def _plain(hint: Any) -> Iterator[Any]:
    if get_origin(hint) is Annotated:
        yield from _plain(get_args(hint)[0])
    elif get_origin(hint) is Literal:
        yield from map(type, get_args(hint))
    elif get_args(hint):
        for inner in get_args(hint):
            if inner is not Ellipsis:
                yield from _plain(inner)
    elif hint is not NoneType:
        yield hint
