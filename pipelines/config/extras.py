"""The failure for a package that is not installed: the command line needs few, and the extra `train` has the others."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from components.shared.base.failure import ExitCode, Failure

REMEDY = "install the extra train, in a clone by `pip install -e '.[train]'`"
# One package for each part of a run on this machine; the steps import them in processes of their own.
_OF_THE_STEPS = ("torch", "transformers", "datasets", "great_expectations", "sqlalchemy")


def missing_package(name: str) -> Failure:
    """The failure of a command that needs a package of the extra `train`, which is not installed."""
    return Failure(
        f"This command needs the package {name}, which is not installed",
        where=sys.prefix,
        remedy=REMEDY,
        exit_code=ExitCode.USAGE,
    )


def require_steps() -> None:
    """Checks that this environment can run steps, before a run is started.

    Raises:
        Failure: a package that a step needs is not installed.
    """
    for name in _OF_THE_STEPS:
        if find_spec(name) is None:
            raise missing_package(name)
