"""Settings of the steps: frozen dataclasses, which pydantic builds from the values of a profile.

The dataclass of a step declares types, defaults and, beside each field, the accepted values (see
`components.shared.base.ranges`). Its `__post_init__` checks constraints between fields and raises a ValueError whose
message begins with the name of a field. The library of a step therefore works without pydantic.
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
Path = tuple[Any, ...]  # keys from a section down to a value
_adapter: Any = cache(TypeAdapter)  # building an adapter takes longer than a hundred uses
_LARGEST = 1 << 4096  # no setting is as large, and Python refuses to print a larger number


def parse_section(
    kind: type[Settings], values: dict[str, Any], section: str, where: Callable[[Path], str | None] = lambda path: None
) -> Settings:
    """Builds a settings object from plain values. A number may be given as text, because YAML parses `3e-4` as text.

    Args:
        kind: the dataclass of the settings.
        values: the values by key.
        section: the name of the section.
        where: returns the file and line of the value at a path of keys, which begins with the section; or None.

    Raises:
        Failure: a key is unknown (the nearest right one is named), or a value is of the wrong type or out of range (the
            nearest valid one is named).
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]

    def wrong(sentence: str, path: Path, remedy: str = "change the value in the profile or in the override") -> Failure:
        location = where((section, *path)) or f"settings of {section}"
        return Failure(f"{section}.{sentence}", where=location, remedy=remedy, exit_code=ExitCode.USAGE)

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
    """The first error of pydantic as a sentence with the accepted values, and the path of the setting."""
    first = error.errors(include_url=False, include_context=False)[0]
    path, message = first["loc"], first["msg"]
    if first["type"] == "value_error":  # the message of a `__post_init__`, which begins with the name of a field
        message = message.removeprefix("Value error, ")
        return ".".join([*map(str, path), message]), (*path, message.split()[0])
    if first["type"] == "tuple_type":
        message = "Input should be a list, as in [a, b]"
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
    """The correction: the nearest valid number, or the range."""
    if not isinstance(limit, Range):
        return ""
    try:
        near = limit.nearest(float(given))
    except (TypeError, ValueError, OverflowError):
        return f"; it must be {limit}"
    # This is an integer field: for a float field pydantic accepts every number.
    return f"; the nearest is {round(near)}" if near == near else f"; it must be {limit}"


def _dataclass_at(kind: type, path: Path) -> type | None:
    """The dataclass at a path of keys below another dataclass."""
    for key in path:
        if isinstance(key, int):  # an index of a tuple, whose item type was found already
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
    """Keys and values at every depth, with the path of each."""
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
    """Every given value with its parsed value and its path."""
    if isinstance(given, dict):
        for key, inner in given.items():
            result = parsed[key] if isinstance(parsed, dict) else getattr(parsed, key)
            yield from _pairs(inner, result, (*path, key))
    elif isinstance(given, list | tuple):
        for inner, result in zip(given, parsed, strict=True):
            yield from _pairs(inner, result, path)
    else:
        yield path, given, parsed


def _unreadable(kind: type, path: Path, value: Any) -> str | None:
    """The problem with a number or text that YAML and JSON can express but later code cannot use, or None."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        limit = _limit_at(kind, path)
        return limit.problem(value) if isinstance(limit, Range) else f"must not be {safe_repr(value)}"
    if isinstance(value, str) and not is_text(value):
        return f"contains a character that is not valid in text, got {safe_repr(value)}"
    return None


def _no_number(given: Any, parsed: Any) -> str | None:
    """The problem with a value that pydantic accepts as a number: NaN, an infinity or a boolean."""
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
