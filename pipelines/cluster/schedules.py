"""Schedules as code: each YAML file names a time, a profile and settings."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared.base.failure import ExitCode, Failure
from components.shared.base.nearest import nearest
from components.shared.base.ranges import safe_repr
from pipelines.cluster.cron import Cron, parse
from pipelines.config.yaml_text import read_yaml

_KEYS = ("name", "cron", "time_zone", "profile", "parameters")
_REQUIRED = ("name", "cron", "profile")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?")


@dataclass(frozen=True)
class Schedule:
    """The schedule in one file.

    Attributes:
        name: the name of the schedule: lower case letters, digits and dashes.
        cron: the cron expression.
        profile: the profile of its runs.
        overrides: the settings of its runs, each `section.key=value`.
    """

    name: str
    cron: Cron
    profile: str
    overrides: tuple[str, ...] = ()


def read_schedules(folder: Path) -> list[Schedule]:
    """Reads every schedule of a folder, by name.

    Raises:
        Failure: there is none, a file cannot be read, or two have the same name.
    """
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in (".yaml", ".yml"))
    if not paths:
        raise _wrong("There are no schedules", str(folder), "name the folder that holds them, as *.yaml, by --from")
    schedules: dict[str, Schedule] = {}
    for path in paths:
        schedule = read_schedule(path)
        if schedule.name in schedules:
            raise _wrong(f"Two schedules are called {schedule.name!r}", str(path), "give one of them another name")
        schedules[schedule.name] = schedule
    return [schedules[name] for name in sorted(schedules)]


def read_schedule(path: Path) -> Schedule:
    """Reads the schedule in one file.

    Raises:
        Failure: a key is unknown or missing, or the name or the cron expression is not valid.
    """
    try:
        values = read_yaml(path, "schedule")
    except FileNotFoundError:
        raise _wrong("There is no such schedule", str(path), "name a YAML file") from None

    def location(key: str) -> str:
        return f"{path}, line {values.lines[key]}" if key in values.lines else str(path)

    for key, line in values.lines.items():
        if key not in _KEYS:
            raise _wrong(
                f"A schedule has no key {safe_repr(key)}",
                f"{path}, line {line}",
                f"did you mean {nearest(key, _KEYS)}? The keys are {', '.join(_KEYS)}",
            )
    for key in _REQUIRED:
        if values.get(key) is None:
            raise _wrong(f"The schedule has no {key}", str(path), f"give it {', '.join(_REQUIRED)}, each in quotes")
    for key in (*_REQUIRED, "time_zone"):
        if not isinstance(values.get(key, ""), str | None):
            what = f"The {key.replace('_', ' ')} of the schedule is {safe_repr(values[key])}, which is not text"
            raise _wrong(what, location(key), "put it in quotes")
    if not _NAME.fullmatch(values["name"]):
        remedy = "use lower case letters, digits and dashes, at most 52"
        raise _wrong(f"The schedule cannot be called {safe_repr(values['name'])}", location("name"), remedy)
    parameters: dict[str, Any] = values.get("parameters") or {}
    if not isinstance(parameters, dict):
        what = f"The parameters of the schedule are {safe_repr(parameters)}"
        raise _wrong(what, location("parameters"), "write them as keys with values")
    return Schedule(
        name=values["name"],
        cron=parse(
            values["cron"], values.get("time_zone") or "UTC", where=location("cron"), zone_at=location("time_zone")
        ),
        profile=values["profile"],
        overrides=tuple(f"{key}={json.dumps(value)}" for key, value in sorted(parameters.items())),
    )


def _wrong(what: str, where: str, remedy: str) -> Failure:
    return Failure(what, where=where, remedy=remedy, exit_code=ExitCode.USAGE)
