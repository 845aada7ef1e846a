"""The page of all settings, from the dataclasses that check them."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import MISSING, Field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from components.shared.base.ranges import Form, Range, limits_of, number
from docs.generator.markdown import attributes, code, summary, table
from pipelines.config.cluster import ClusterSettings, Toleration
from pipelines.config.resources import Quantity, StepResources
from pipelines.config.settings import SECTIONS
from pipelines.steps import STEPS

_KINDS = {bool: "`true` or `false`", int: "whole number", float: "number", str: "text", NoneType: "`null`"}
_COLUMNS = ("setting", "default", "accepted", "meaning")
_INTRODUCTION = """# Settings

A setting is a key of a section of a profile, and `--set section.key=value` overrides it for one run. A wrong key or
value is an error that names the line and the nearest valid one. The build of this page reads the classes that check
the settings.
"""


def settings_page() -> str:
    """The page, with one table for each section."""
    sections = [_section(name, kind) for name, kind in {**SECTIONS, "cluster": ClusterSettings}.items()]
    return "\n".join([_INTRODUCTION, *sections, _resources(), _tolerations()])


def _section(name: str, kind: type) -> str:
    rows = _rows(kind, name)
    return f"## {code(name)}\n\n{summary(inspect.getdoc(kind))}\n\n{table(_COLUMNS, rows)}"


def _rows(kind: type, section: str) -> list[list[str]]:
    described = attributes(kind.__doc__)
    hints = get_type_hints(kind)
    rows: list[list[str]] = []
    previous = ""
    for field in fields(kind):
        if is_dataclass(hints[field.name]):  # the resources of a step, which have their own table
            continue
        anchor = f"{code(field.name)}{{ #{section}.{field.name} }}"
        meaning = described[field.name]
        shown = "as above" if meaning == previous else re.sub(r"\bNone\b", "`null`", meaning)
        rows.append([anchor, _default(field), _accepted(kind, field.name), shown])
        previous = meaning
    return rows


def _resources() -> str:
    """The settings `cluster.<step>.<key>`: their meanings, and the defaults of each step."""
    kinds = {step: get_type_hints(ClusterSettings)[step] for step in STEPS}
    keys = [field.name for field in fields(StepResources)]
    defaults = [
        [code(key), *(_default(next(field for field in fields(kind) if field.name == key)) for kind in kinds.values())]
        for key in keys
    ]
    meanings = [[row[0], *row[2:]] for row in _rows(StepResources, "cluster.step")]
    return (
        "## `cluster.<step>`\n\nEach step has its own, as in `--set cluster.train.gpus=2`.\n\n"
        f"{table(('setting', 'accepted', 'meaning'), meanings)}\n"
        f"These are the defaults:\n\n{table(('setting', *map(code, kinds)), defaults)}"
    )


def _tolerations() -> str:
    rows = [[code(field.name), _default(field), _accepted(Toleration, field.name)] for field in fields(Toleration)]
    listed = table(("key", "default", "accepted"), rows)
    return f"## `cluster.gpu_tolerations`\n\n{summary(Toleration.__doc__)}\n\n{listed}"


def _default(field: Field[Any]) -> str:
    if field.default is MISSING and field.default_factory is MISSING:
        return "required"
    value = field.default if field.default_factory is MISSING else field.default_factory()
    return code(_written(value))


def _written(value: Any) -> str:
    """A value as it is written in a profile."""
    if is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_written(each)}' for key, each in value.items())}}}"
    return str(value) or '""'


def _accepted(kind: type, name: str) -> str:
    limit = limits_of(kind).get(name)
    hint = get_type_hints(kind)[name]
    words = _kind(hint)
    if isinstance(limit, Range):
        words = words.replace("number", f"number {limit}", 1)
    elif isinstance(limit, Form):
        words = words.replace("text", limit.words, 1)
    elif isinstance(limit, Quantity):
        words = words.replace("text", f"{limit.form}, from `{limit.low}` to `{limit.high}`", 1)
    return re.sub(r"\b[0-9]{5,}\b", lambda digits: f"{int(digits[0]):,}", words)


def _kind(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        return _kind(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return " or ".join(code(str(value)) for value in get_args(hint))
    if get_origin(hint) in (Union, UnionType):
        return ", or ".join(_kind(each) for each in get_args(hint))
    if get_origin(hint) is tuple:
        return f"a list of: {_kind(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        return "keys with texts"
    return "[tolerations](#clustergpu_tolerations)" if hint is Toleration else _KINDS[hint]
