"""Conditions in MLflow's filter language, which has quotes but no way to escape one."""

from __future__ import annotations


def equals(field: str, value: str) -> str | None:
    """The condition that a field equals a value; None if the language cannot express the value.

    On None the caller searches without the condition and filters the results itself.
    """
    if value.endswith("\\"):  # its parser may read that as an escape
        return None
    for quote in ("'", '"'):
        if quote not in value:
            return f"{field} = {quote}{value}{quote}"
    return None


def all_of(*conditions: str | None) -> str | None:
    """The conditions joined by `and`; None if all are None."""
    return " and ".join(condition for condition in conditions if condition) or None
