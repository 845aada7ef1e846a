"""Values that every JSON parser reads: Python's own encoder also writes NaN and Infinity, which are not JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any


def json_value(value: Any) -> Any:
    """Converts a value for JSON: a float that is not finite to null, a dataclass to an object, another type to text."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()  # a file name may contain bytes that are not UTF-8
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): json_value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_value(inner) for inner in value]
    if is_dataclass(value) and not isinstance(value, type):
        return json_value(asdict(value))
    return json_value(str(value))
