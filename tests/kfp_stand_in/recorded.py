"""Answers of a real Kubeflow Pipelines 2.17.0: excerpts of recordings, from which the stand-in answers.

An excerpt is a recording with keys, entries and lines left out; nothing in it was changed. `test_recorded.py` holds the
excerpts against the whole recordings, where those are there.
"""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "recordings"


def recorded(name: str) -> Any:
    """A copy of a recorded JSON document, such as `rest/run-failed`, which a test may change."""
    return copy.deepcopy(_read(name))


def recorded_log(name: str) -> tuple[dict[str, str], str]:
    """Headers and body of a recorded answer of the log endpoint, such as `log-of-missing-run`."""
    head, _, body = (FOLDER / "logs" / f"{name}.http").read_text().partition("\n\n")
    status, *headers = head.splitlines()
    return {"status": status, **dict(header.split(": ", 1) for header in headers)}, body


def with_identity(document: Any, old: str, new: str) -> Any:
    """A recorded document about another object: one identity is replaced by another everywhere."""
    return json.loads(json.dumps(document).replace(old, new))


def is_excerpt(part: Any, whole: Any) -> bool:
    """Whether a document is another one with keys and entries left out."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and is_excerpt(value, whole[key]) for key, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        rest = iter(whole)
        return all(any(is_excerpt(entry, candidate) for candidate in rest) for entry in part)
    return bool(part == whole)


@cache
def _read(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text())
