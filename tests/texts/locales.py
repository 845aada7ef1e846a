"""Locales whose encoding is not UTF-8, as variables of a process."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

# Glibc's sources, by the name of the locale that is built from them.
_SOURCES = {"zh_CN.GBK": ("zh_CN", "GBK"), "en_US.ISO-8859-1": ("en_US", "ISO-8859-1")}
NAMES = ("C", *_SOURCES, "PYTHONIOENCODING")


def variables_of(name: str, folder: Path) -> dict[str, str]:
    """The variables under which Python uses a locale's encoding; the locale is built if the machine lacks it.

    Args:
        name: one of `NAMES`; under `C` nothing but ASCII can be encoded, which needs no locale of the machine.
        folder: the folder in which locales are built once.
    """
    if name == "PYTHONIOENCODING":
        return {"PYTHONIOENCODING": "latin-1"}
    if name == "C":
        return {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    if not (folder / name).exists():
        if not shutil.which("localedef"):
            pytest.skip("no localedef here, which makes a locale")
        language, charset = _SOURCES[name]
        made = subprocess.run(["localedef", "-i", language, "-f", charset, folder / name], capture_output=True)
        if not (folder / name).exists():
            pytest.skip(f"localedef has no {name} here: {made.stderr.decode(errors='replace')}")
    return {"LC_ALL": name, "LOCPATH": str(folder)}


def environment(name: str, folder: Path, **variables: str) -> dict[str, str]:
    """The variables of this process with those of a locale in place of all that determine encodings."""
    decisive = (
        "LC_",
        "LANG",
        "LOCPATH",
        "PYTHONUTF8",
        "PYTHONIOENCODING",
        "PYTHONCOERCECLOCALE",
        "WIKIGPT_",
        "MLFLOW_",
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith(decisive)}
    return {**kept, **variables_of(name, folder), **variables}
