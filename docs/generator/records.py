"""The records of benchmarks: what was measured, by which command, where and with which versions.

Each record is a file `docs/benchmarks/NAME.json`. The benchmarks write it (`--record`), and the pages quote it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "benchmarks"


@dataclass(frozen=True)
class Record:
    """One run of a benchmark.

    Attributes:
        benchmark: the name of the benchmark, by which its values are shown.
        title: what was measured, in a few words.
        command: the command that measured, without paths of the machine.
        date: the day and the time of the start, in UTC.
        commit: the commit of the code that was measured; `-dirty` at its end if the code was edited.
        machine: the CPU, its cores, and the load of other programs at the start.
        versions: the versions of Python and of the packages that matter.
        values: what was measured.
        remark: what a reader must know besides, such as the origin of values that this command did not write.
    """

    benchmark: str
    title: str
    command: str
    date: str
    commit: str
    machine: dict[str, Any]
    versions: dict[str, str]
    values: dict[str, Any]
    remark: str = ""


def load(name: str) -> Record:
    """The record `docs/benchmarks/NAME.json`.

    Raises:
        ValueError: there is no such record, or it lacks a field or has another one.
    """
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        raise ValueError(f"there is no record docs/benchmarks/{name}.json: write it with --record")
    content = json.loads(path.read_text(encoding="utf-8"))
    names = {field.name for field in fields(Record)}
    if wrong := names.symmetric_difference(content):
        raise ValueError(f"docs/benchmarks/{name}.json lacks or should not have: {', '.join(sorted(wrong))}")
    return Record(**content)


def names() -> list[str]:
    """The names of all records, in alphabetical order."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))
