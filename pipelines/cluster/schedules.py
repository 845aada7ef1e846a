"""Schedules as code: a YAML file each, which says when which profile runs with which settings."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from components.shared.failure import ExitCode, Failure
from pipelines.cluster.cron import Cron, parse
from pipelines.settings import yaml_complaint

_KEYS = ("name", "cron", "time_zone", "profile", "parameters")
_REQUIRED = ("name", "cron", "profile")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?")


@dataclass(frozen=True)
class Schedule:
    """One schedule as its file says it.

    Attributes:
        name: of the schedule, lower case letters, digits and dashes.
        cron: when it is due.
        profile: that its runs take.
        overrides: settings of its runs, each `section.key=value`.
    """

    name: str
    cron: Cron
    profile: str
    overrides: tuple[str, ...] = ()


def read_schedules(folder: Path) -> list[Schedule]:
    """Every schedule of a folder, by name.

    Raises:
        Failure: there is none, one cannot be read, or two have the same name.
    """
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise _wrong("There are no schedules", folder, "name the folder that holds them by --from")
    schedules: dict[str, Schedule] = {}
    for path in paths:
        schedule = read_schedule(path)
        if schedule.name in schedules:
            raise _wrong(f"Two schedules are called {schedule.name!r}", path, "give one of them another name")
        schedules[schedule.name] = schedule
    return [schedules[name] for name in sorted(schedules)]


def read_schedule(path: Path) -> Schedule:
    """The schedule of one file.

    Raises:
        Failure: a key is unknown or missing, the name or the cron cannot be used.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise _wrong(f"The schedule is not YAML: {yaml_complaint(error)}", path, "mend it") from None
    if not isinstance(values, dict):
        raise _wrong("The schedule is not YAML with keys", path, f"give it {', '.join(_REQUIRED)}")
    for key in values.keys() - set(_KEYS):
        nearest = get_close_matches(str(key), _KEYS, n=1, cutoff=0.0)[0]
        raise _wrong(f"A schedule has no key {key!r}", path, f"did you mean {nearest}? The keys are {', '.join(_KEYS)}")
    for key in _REQUIRED:
        if not isinstance(values.get(key), str):
            raise _wrong(f"The schedule has no {key}", path, f"give it {', '.join(_REQUIRED)}, each in quotes")
    if not _NAME.fullmatch(values["name"]):
        remedy = "use lower case letters, digits and dashes, at most 52"
        raise _wrong(f"The schedule cannot be called {values['name']!r}", path, remedy)
    parameters: dict[str, Any] = values.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise _wrong(f"The parameters of the schedule are {parameters!r}", path, "write them as keys with values")
    zone = values.get("time_zone") or "UTC"
    if not isinstance(zone, str):
        raise _wrong(f"The time zone of the schedule is {zone!r}", path, "give its name in quotes")
    return Schedule(
        name=values["name"],
        cron=parse(values["cron"], zone, where=str(path)),
        profile=values["profile"],
        overrides=tuple(f"{key}={json.dumps(value)}" for key, value in sorted(parameters.items())),
    )


def _wrong(what: str, path: Path, remedy: str) -> Failure:
    return Failure(what, where=str(path), remedy=remedy, exit_code=ExitCode.USAGE)
