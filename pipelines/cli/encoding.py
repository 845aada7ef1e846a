"""Arguments and variables must be text: other names cannot be written to settings, addresses or records."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from components.shared.base.failure import ExitCode, Failure
from components.shared.base.ranges import is_text, safe_repr

_OURS = ("WIKIGPT_", "MLFLOW_", "AWS_", "HF_", "KF_PIPELINES_")
_USED = ("HOME", "TMPDIR", "KUBECONFIG", "DOCKER_HOST")


def require_text(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Checks the arguments of the command, and the variables that it reads.

    Raises:
        Failure: one is not in the encoding of this process, which is UTF-8 on nearly every machine.
    """
    encoding = sys.getfilesystemencoding().upper()
    for argument in arguments:
        if not is_text(argument):
            written = os.fsencode(argument).decode(errors="backslashreplace")
            raise Failure(
                f"An argument is not {encoding}: {safe_repr(written)}",
                where="the command line",
                remedy=f"write it in {encoding}; `mv` renames a file",
                exit_code=ExitCode.USAGE,
            )
    for name, value in environment.items():
        if (name.startswith(_OURS) or name in _USED) and not is_text(value):
            raise Failure(
                f"The variable {name} is not {encoding}",
                where="the environment",
                remedy=f"set it to text in {encoding}, or unset it",
                exit_code=ExitCode.USAGE,
            )
