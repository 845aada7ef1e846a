"""Replaces secrets in settings by references: `${WIKIGPT_SECRET_…}` names a variable of the step's environment.

Settings are visible to every user in process arguments, in the compiled pipeline and in MLflow.
"""

from __future__ import annotations

import os
import re
from typing import Any

from components.shared.base.failure import ExitCode, Failure
from components.shared.base.redact import find_secret

_ALWAYS = {("notify", "webhook")}  # in many webhook addresses the path is the secret
_REFERENCE = re.compile(r"\$\{(WIKIGPT_SECRET_[A-Z0-9_]+)\}")


def move_out_secrets(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Replaces values that contain a credential by references.

    Args:
        settings: plain values by section and key.

    Returns:
        The settings, and the variables that the references name, with their values.
    """
    variables: dict[str, str] = {}

    def refer(section: str, key: str, value: Any) -> Any:
        if not isinstance(value, str) or not (find_secret(value) or (section, key) in _ALWAYS):
            return value
        name = f"WIKIGPT_SECRET_{section}_{key}".upper()
        variables[name] = value
        return f"${{{name}}}"

    moved = {
        section: {key: refer(section, key, value) for key, value in values.items()}
        if isinstance(values, dict)
        else values
        for section, values in settings.items()
    }
    return moved, variables


def fill_in_secrets(values: dict[str, Any]) -> dict[str, Any]:
    """Replaces the references in one section by their values, in the step that needs them.

    Raises:
        Failure: a variable is not set.
    """
    return {key: _REFERENCE.sub(_value_of, value) if isinstance(value, str) else value for key, value in values.items()}


def _value_of(reference: re.Match[str]) -> str:
    if value := os.environ.get(reference[1]):
        return value
    raise Failure(
        f"The settings refer to {reference[1]}, which is not set",
        where="the environment of the step",
        remedy="set it, or on a cluster mount the Secret that contains it",
        exit_code=ExitCode.USAGE,
    )
