"""Settings of the steps: frozen dataclasses of the standard library, checked by pydantic where text becomes values.

A step's dataclass says types and defaults, and beside each field what it takes (`components.shared.base.ranges`); what
concerns several fields is checked in `__post_init__`, which raises ValueError with a sentence that begins with the name
of one. So a step's core needs no pydantic to be used as a library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from math import isfinite
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from components.shared.base.failure import ExitCode, Failure
from components.shared.base.nearest import nearest
from components.shared.base.ranges import Limit, Range, is_text, limits_of, safe_repr

Settings = TypeVar("Settings")
Path = tuple[Any, ...]  # keys, from a section down to a value
_adapter: Any = cache(TypeAdapter)  # making one takes longer than a hundred uses
_LARGEST = 1 << 4096  # what is larger can be no number of a setting, and Python does not even print it


def parse_section(
    kind: type[Settings], values: dict[str, Any], section: str, where: Callable[[Path], str | None] = lambda path: None
) -> Settings:
    """Makes a settings object from plain values; a number may come as text, as which YAML reads `3e-4`.

    Args:
        kind: of the settings, a dataclass.
        values: by key.
        section: its name.
        where: the file and the line in which the value at a path of keys, the section first, stands; or None.

    Raises:
        Failure: a key is unknown (the nearest right one is named), or a value is of the wrong type or out of range (the
            nearest valid one is named).
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]

    def wrong(sentence: str, path: Path, remedy: str = "change the value in the profile or in --set") -> Failure:
        place = where((section, *path)) or f"settings of {section}"
        return Failure(f"{section}.{sentence}", where=place, remedy=remedy, exit_code=ExitCode.USAGE)

    for key in values:
        if key not in known:
            raise _unknown(key, known, section, where((section, key)))
    for path, value in _leaves(values):
        if problem := _unreadable(kind, path, value):
            raise wrong(f"{_name(path)} {problem}", path)
    try:
        settings: Settings = _adapter(kind).validate_python(values)
    except ValidationError as error:
        raise wrong(*_sentence(kind, error)) from None
    for path, given, parsed in _pairs(values, settings):
        if problem := _no_number(given, parsed):
            raise wrong(f"{_name(path)} {problem}", path)
    return settings


def _sentence(kind: type, error: ValidationError) -> tuple[str, Path]:
    """What pydantic says first, with the values that the setting takes; and the path of the setting."""
    first = error.errors(include_url=False, include_context=False)[0]
    path, message = first["loc"], first["msg"]
    if first["type"] == "value_error":  # our own words, which begin with the name of a field
        message = message.removeprefix("Value error, ")
        return ".".join([*map(str, path), message]), (*path, message.split()[0])
    if first["type"] == "unexpected_keyword_argument" and (owner := _dataclass_at(kind, path[:-1])):
        hint = nearest(str(path[-1]), (field.name for field in fields(owner)))
        return f"{_name(path)}: {message}; did you mean {hint}?", path
    return (
        f"{_name(path)}: {message}, got {safe_repr(first['input'])}{_hint(_limit_at(kind, path), first['input'])}",
        path,
    )


def _name(path: Path) -> str:
    return ".".join(key if isinstance(key, str) else safe_repr(key) for key in path)


def _hint(limit: Limit | None, given: Any) -> str:
    """What would have been right: the nearest number, or the range."""
    if not isinstance(limit, Range):
        return ""
    try:
        near = limit.nearest(float(given))
    except (TypeError, ValueError, OverflowError):
        return f"; it must be {limit}"
    # Where a fraction is allowed, pydantic takes every number, and says nothing.
    return f"; the nearest is {round(near)}" if near == near else f"; it must be {limit}"


def _dataclass_at(kind: type, path: Path) -> type | None:
    """The dataclass that a path of keys leads to, below another."""
    for key in path:
        if isinstance(key, int):  # of a tuple, whose type was looked at before
            continue
        hint = get_type_hints(kind).get(key)
        below = [each for each in (hint, *get_args(hint)) if isinstance(each, type) and is_dataclass(each)]
        if not below:
            return None
        kind = below[0]
    return kind


def _limit_at(kind: type, path: Path) -> Limit | None:
    owner = _dataclass_at(kind, path[:-1]) if path else None
    return limits_of(owner).get(str(path[-1])) if owner else None


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Keys and values at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield path, key
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner, path)
    else:
        yield path, value


def _pairs(given: Any, parsed: Any, path: Path = ()) -> Iterator[tuple[Path, Any, Any]]:
    """Every value that was given, beside what became of it."""
    if isinstance(given, dict):
        for key, inner in given.items():
            made = parsed[key] if isinstance(parsed, dict) else getattr(parsed, key)
            yield from _pairs(inner, made, (*path, key))
    elif isinstance(given, list | tuple):
        for inner, made in zip(given, parsed, strict=True):
            yield from _pairs(inner, made, path)
    else:
        yield path, given, parsed


def _unreadable(kind: type, path: Path, value: Any) -> str | None:
    """What is wrong with a value that is text or a number to YAML and JSON, and to nothing that comes after."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        limit = _limit_at(kind, path)
        return limit.problem(value) if isinstance(limit, Range) else f"must not be {safe_repr(value)}"
    if isinstance(value, str) and not is_text(value):
        return f"holds a character that no text has, got {safe_repr(value)}"
    return None


def _no_number(given: Any, parsed: Any) -> str | None:
    """What is wrong with what pydantic takes for a number: NaN, infinities and truth values."""
    if isinstance(parsed, float) and not isfinite(parsed):
        return f"must be finite, got {safe_repr(given)}"
    if isinstance(given, bool) and not isinstance(parsed, bool):
        return f"must be a number, got {given!r}"
    return None


def _unknown(key: Any, known: list[str], section: str, where: str | None) -> Failure:
    hint = nearest(str(key), known)
    return Failure(
        f"There is no setting {section}.{_name((key,))}",
        where=where or f"settings of {section}",
        remedy=f"{f'did you mean {section}.{hint}? ' if hint else ''}The settings of {section} are:"
        f" {', '.join(known) or 'none'}",
        exit_code=ExitCode.USAGE,
    )
