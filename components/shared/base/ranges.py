"""The values that a setting accepts, declared once beside its field:

    seed: Annotated[int, Range(0, 2**64 - 1)] = 1

`check_ranges`, called in `__post_init__`, checks every field against its declaration. It works without pydantic, which
ignores such metadata.
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
    """The values that a field accepts."""

    def problem(self, value: Any) -> str | None:
        """The problem with a value, as the rest of a sentence after the field's name; None if the value is valid."""


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`, both included.

    Attributes:
        low, high: the bounds; whole numbers for a field of whole numbers.
        also: one more valid value below the bounds, such as 0 for "none".
    """

    low: float
    high: float
    also: float | None = None

    def __str__(self) -> str:
        extra = "" if self.also is None else f"{number(self.also)} or "
        return f"{extra}from {number(self.low)} to {number(self.high)}"

    def problem(self, value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"must be a number {self}, got {safe_repr(value)}"
        if self.low <= value <= self.high or value == self.also:
            return None
        hint = "" if value != value else f"; the nearest is {number(self.nearest(value))}"
        return f"must be {self}, got {safe_repr(value)}{hint}"

    def nearest(self, value: float) -> float:
        """The valid number nearest to `value`, which must not be NaN."""
        inside = min(max(value, self.low), self.high)
        if self.also is None or value >= self.low:
            return inside
        return self.also if value <= (self.also + self.low) / 2 else self.low


@dataclass(frozen=True)
class Form:
    """A text that matches a pattern.

    Attributes:
        pattern: a regular expression for the whole text.
        words: a description of the pattern, such as "the name of an environment variable".
    """

    pattern: str
    words: str

    def problem(self, value: Any) -> str | None:
        if isinstance(value, str) and re.fullmatch(self.pattern, value):
            return None
        return f"must be {self.words}, got {safe_repr(value)}"


@cache
def limits_of(kind: type) -> dict[str, Limit]:
    """The limits of a dataclass by field name."""
    return {
        name: limit
        for name, hint in get_type_hints(kind, include_extras=True).items()
        if get_origin(hint) is Annotated
        for limit in get_args(hint)[1:]
        if hasattr(limit, "problem")
    }


def check_ranges(settings: Any) -> None:
    """Checks the fields of a dataclass against their limits: every item of a tuple, and no value that is None.

    Raises:
        ValueError: a value is out of range; the message names the field and the nearest valid value.
    """
    kind: Any = type(settings)
    for name, limit in limits_of(kind).items():
        value = getattr(settings, name)
        for each in value if isinstance(value, tuple) else (value,):
            if each is not None and (problem := limit.problem(each)):
                raise ValueError(f"{name} {problem}")


def number(value: float) -> str:
    """A number as a person writes it, with all of its digits."""
    return repr(int(value)) if value == int(value) and abs(value) < 2**64 else repr(value)


def safe_repr(value: Any) -> str:
    """The repr of any value for a message: without credentials, and truncated if it is long."""
    if isinstance(value, int) and abs(value) >= _LARGEST:
        return f"a number of {int(math.log10(abs(value))) + 1} digits"
    try:
        text = repr(redact_values(value))  # before truncation, because half a credential is not recognised
    except ValueError:  # Python refuses to print a number of more than 4,300 digits
        return f"a {type(value).__name__} with a number that is too long to print"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def nearest_multiple(value: int, of: int) -> int:
    """The positive multiple of `of` that is nearest to `value`."""
    return max(1, round(value / of)) * of


def is_text(value: str) -> bool:
    """Whether a text can be encoded as UTF-8 and passed to the system: it has no NUL and no lone surrogate."""
    return "\0" not in value and not re.search("[\ud800-\udfff]", value)
