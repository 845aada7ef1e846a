"""`--record FILE`: a benchmark writes what it measured to a JSON record, from which `make figures` makes the pages.

    parser = argparse.ArgumentParser(…)
    record.add_options(parser)
    options = parser.parse_args()
    recorder = record.Recorder(options, "train_speed", "Tokens a second of the trainer", ["torch", "transformers"])
    …
    recorder.save(values)

A benchmark may save after each of its parts: the file is replaced as a whole.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import Any

from components.shared.model.hardware import cores_granted, cpu_model
from components.shared.storage.files import write_atomically
from docs.generator.records import Record

ROOT = Path(__file__).parents[2]
# A record is of the code below these paths: a page that was edited since makes no other code.
_CODE = ("components", "pipelines", "tests", "docker/lock", "infra/laptop", "Makefile", "pyproject.toml")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--record` and `--remark`."""
    parser.add_argument("--record", type=Path, metavar="FILE", help="write a record, as docs/benchmarks has them")
    parser.add_argument("--remark", default="", metavar="TEXT", help="a sentence for the record")


class Recorder:
    """Notes the command, the machine and its load at the start, and writes them with the values.

    Args:
        options: the parsed options of the benchmark.
        benchmark: the name of the benchmark.
        title: what is measured, in a few words.
        packages: the packages whose versions matter.
    """

    def __init__(self, options: argparse.Namespace, benchmark: str, title: str, packages: Sequence[str]) -> None:
        self.path: Path | None = options.record
        self._fields = {
            "benchmark": benchmark,
            "title": title,
            "command": command(f"tests.benchmarks.{benchmark}", sys.argv[1:]),
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "commit": commit(),
            "machine": machine(),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
            "remark": options.remark,
        }

    def save(self, values: dict[str, Any]) -> None:
        """Writes the record with the values so far, if the command asks for one."""
        if self.path is not None:
            text = json.dumps(asdict(Record(values=values, **self._fields)), indent=1, ensure_ascii=False) + "\n"
            write_atomically(self.path, text)


def command(module: str, arguments: Sequence[str]) -> str:
    """The command line without the options of this module. Of an absolute path it has the last part only."""
    shown: list[str] = []
    words = iter(arguments)
    for word in words:
        option = word.partition("=")[0]
        if option in ("--record", "--remark"):
            if option == word:
                next(words, None)
        else:
            shown.append(PurePath(word).name if PurePath(word).is_absolute() else word)
    return shlex.join(["python", "-m", module, *shown])


def machine() -> dict[str, Any]:
    """The CPU and its instructions for products, the cores of this process, the GPU, the load of the last minute."""
    found: dict[str, Any] = {"cpu": cpu_model(), "instructions": instructions(), "cores": cores_granted()}
    if gpu := gpu_name():
        found["gpu"] = gpu
    return found | {"load": round(os.getloadavg()[0], 1)}


def instructions() -> list[str]:
    """The extensions of this CPU for products of vectors and matrices, by the kernel's names for them."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return []
    return [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16") if flag in flags]


def gpu_name() -> str:
    """The name of the first NVIDIA GPU, and "" without one."""
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        ended = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return ended.stdout.partition("\n")[0].strip()


def commit() -> str:
    """The commit of the code, with `-dirty` if code was edited since; "" outside a checkout."""
    try:
        head = _git("rev-parse", "HEAD")
        return head + ("-dirty" if _git("status", "--porcelain", "--", *_CODE) else "")
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(*words: str) -> str:
    ended = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=20, check=True)
    return ended.stdout.strip()
