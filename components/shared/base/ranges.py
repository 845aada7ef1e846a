"""The values that a setting takes, said once beside its field:

    seed: Annotated[int, Range(0, 2**64 - 1)] = 1

`check_ranges`, called in `__post_init__`, holds every field against what is said there. It needs no pydantic, which
passes over such metadata.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Protocol, get_args, get_origin, get_type_hints

from components.shared.base.redact import redact_values

_LONGEST = 80  # characters of a value in a sentence
_LARGEST = 10**40


class Limit(Protocol):
    """What a field takes."""

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, as a sentence goes on after the name of the field; None where nothing is."""


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`, both included.

    Attributes:
        low, high: the bounds; whole numbers for a field of whole numbers.
        also: a value below them, such as 0 for "none".
    """

    low: float
    high: float
    also: float | None = None

    def __str__(self) -> str:
        beside = "" if self.also is None else f"{number(self.also)} or "
        return f"{beside}from {number(self.low)} to {number(self.high)}"

    def problem(self, value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"must be a number {self}, got {safe_repr(value)}"
        if self.low <= value <= self.high or value == self.also:
            return None
        hint = "" if value != value else f"; the nearest is {number(self.nearest(value))}"
        return f"must be {self}, got {safe_repr(value)}{hint}"

    def nearest(self, value: float) -> float:
        """The valid number that is nearest to another number, which is not NaN."""
        inside = min(max(value, self.low), self.high)
        if self.also is None or value >= self.low:
            return inside
        return self.also if value <= (self.also + self.low) / 2 else self.low


@dataclass(frozen=True)
class Form:
    """A text of a certain form.

    Attributes:
        pattern: a regular expression that matches all of it.
        words: the same in words, as in "the name of an environment variable".
    """

    pattern: str
    words: str

    def problem(self, value: Any) -> str | None:
        if isinstance(value, str) and re.fullmatch(self.pattern, value):
            return None
        return f"must be {self.words}, got {safe_repr(value)}"


@cache
def limits_of(kind: type) -> dict[str, Limit]:
    """By field of a dataclass: what is said of its values."""
    return {
        name: limit
        for name, hint in get_type_hints(kind, include_extras=True).items()
        if get_origin(hint) is Annotated
        for limit in get_args(hint)[1:]
        if hasattr(limit, "problem")
    }


def check_ranges(settings: Any) -> None:
    """Holds the fields of a dataclass against their limits: each part of a tuple, and nothing that is None.

    Raises:
        ValueError: a sentence that begins with the field's name and ends with the nearest valid value.
    """
    kind: Any = type(settings)
    for name, limit in limits_of(kind).items():
        value = getattr(settings, name)
        for each in value if isinstance(value, tuple) else (value,):
            if each is not None and (problem := limit.problem(each)):
                raise ValueError(f"{name} {problem}")


def number(value: float) -> str:
    """A number as a person writes it, with every digit that it has."""
    return repr(int(value)) if value == int(value) and abs(value) < 2**64 else repr(value)


def safe_repr(value: Any) -> str:
    """A value of any kind in a sentence: without credentials, and cut where it is long."""
    if isinstance(value, int) and abs(value) >= _LARGEST:
        return f"a number of {int(math.log10(abs(value))) + 1} digits"
    try:
        text = repr(redact_values(value))  # first, since half a credential is not recognised
    except ValueError:  # Python writes no number of more than 4,300 digits
        return f"a {type(value).__name__} with a number that is too long to be shown"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def nearest_multiple(value: int, of: int) -> int:
    """The multiple of a number, but not 0, that is nearest to a value."""
    return max(1, round(value / of)) * of


def is_text(value: str) -> bool:
    """Whether a text can be written and handed to the system: it holds no NUL and no half of a surrogate pair."""
    return "\0" not in value and not re.search("[\ud800-\udfff]", value)
