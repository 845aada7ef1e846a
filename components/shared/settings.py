"""Settings of the steps: frozen dataclasses of the standard library, checked by pydantic where text becomes values.

A step's dataclass says types and defaults and, in `__post_init__`, ranges: it raises ValueError with a sentence that
begins with the field's name. So a step's core needs no pydantic to be used as a library.
"""

from __future__ import annotations

from dataclasses import fields
from difflib import get_close_matches
from math import isfinite
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from components.shared.failure import ExitCode, Failure

Settings = TypeVar("Settings")


def parse_section(kind: type[Settings], values: dict[str, Any], section: str) -> Settings:
    """Makes a settings object from plain values; a number may come as text, as which YAML reads `3e-4`.

    Raises:
        Failure: a key is unknown (the nearest right one is named), or a value is of the wrong type or out of range.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            nearest = "".join(f"did you mean {section}.{name}? " for name in get_close_matches(key, known, 1, 0.0))
            raise Failure(
                f"There is no setting {section}.{key}",
                where=f"settings of {section}",
                remedy=f"{nearest}The settings of {section} are: {', '.join(known) or 'none'}",
                exit_code=ExitCode.USAGE,
            )
    try:
        settings = TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        seen = "" if isinstance(first["input"], dict) else f", got {first['input']!r}"
        subject = ".".join([section, *map(str, first["loc"])])
        sentence = f"{subject}: {message}{seen}" if first["loc"] else f"{section}.{message}"
        raise _wrong(sentence, section) from None
    for key, value in values.items():
        _check_number(f"{section}.{key}", value, getattr(settings, key), section)
    return settings


def _check_number(name: str, given: Any, parsed: Any, section: str) -> None:
    """Refuses what pydantic would take for a number: NaN, infinities and truth values."""
    numbers = parsed if isinstance(parsed, tuple) else (parsed,)
    if not all(isfinite(number) for number in numbers if isinstance(number, float)):
        raise _wrong(f"{name} must be finite, got {given!r}", section)
    if isinstance(given, bool) and not isinstance(parsed, bool):
        raise _wrong(f"{name} must be a number, got {given!r}", section)


def _wrong(sentence: str, section: str) -> Failure:
    return Failure(
        sentence,
        where=f"settings of {section}",
        remedy="mend the value in the profile or in --set",
        exit_code=ExitCode.USAGE,
    )
