"""Names in MLflow's filter language, which knows quotes and no way to escape one."""

from __future__ import annotations


def named(field: str, value: str) -> str | None:
    """The condition that a field has a value; None where the language has no way to write the value.

    Whoever gets None asks without the condition, and looks at the answers.
    """
    if value.endswith("\\"):  # its parser may take that for an escape, though it knows none
        return None
    for quote in ("'", '"'):
        if quote not in value:
            return f"{field} = {quote}{value}{quote}"
    return None


def both(*conditions: str | None) -> str | None:
    """The conditions joined, without those that are none."""
    return " and ".join(condition for condition in conditions if condition) or None
