"""Settings only refer to secrets: `${WIKIGPT_SECRET_…}` stands for a variable of the step's environment.

Settings travel in the arguments of processes, in the compiled pipeline and in MLflow, where everybody reads them.
"""

from __future__ import annotations

import os
import re
from typing import Any

from components.shared.base.failure import ExitCode, Failure
from components.shared.base.redact import find_secret

_ALWAYS = {("notify", "webhook")}  # the path of many is the secret
_REFERENCE = re.compile(r"\$\{(WIKIGPT_SECRET_[A-Z0-9_]+)\}")


def move_out_secrets(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Replaces values that carry a credential by references.

    Args:
        settings: by section and key, plain values.

    Returns:
        The settings, and the variables that the references stand for.
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
    """The inverse for one section, in the step that needs it.

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
        remedy="set it, or on a cluster mount the Secret that holds it",
        exit_code=ExitCode.USAGE,
    )
