"""Checks the environment variables of MLflow, because MLflow raises a ValueError only where it uses a wrong one."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from components.shared.base.address import is_web_address
from components.shared.base.failure import ExitCode, Failure, variable_failure
from components.shared.base.ranges import Range, safe_repr

_TEXTS = {"MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"}
# These variables are sent in a header.
_CREDENTIALS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_RANGES = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": Range(1, 3600),
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": Range(0, 9),
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": Range(0, 119),
}
_POOLS = ["AssertionPool", "AsyncAdaptedQueuePool", "NullPool", "QueuePool", "SingletonThreadPool", "StaticPool"]
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_HOSTED = ("databricks",)


def check_mlflow_variables(environment: Mapping[str, str] | None = None) -> None:
    """Checks the variables that MLflow uses without a check.

    Raises:
        Failure: a variable cannot be used. The message names the variable and never contains a credential.
    """
    given = os.environ if environment is None else environment
    for name in _CREDENTIALS:
        if re.search(r"[\x00-\x1f\x7f]|^\s|\s$", given.get(name, "")):
            raise variable_failure(
                f"{name} contains a line break, or begins or ends with a space",
                "remove that character; a Secret that was made from a file often ends with a line break",
                ExitCode.UNAUTHORISED,
            )
    named = {name for name in given if name.startswith("MLFLOW_")} - _TEXTS - set(_CREDENTIALS)
    if not named:
        return
    level = given.get("MLFLOW_LOGGING_LEVEL")
    if level and not isinstance(logging.getLevelName(level.upper()), int):
        raise variable_failure(
            f"MLFLOW_LOGGING_LEVEL is {safe_repr(level)}", "set it to DEBUG, INFO, WARNING or ERROR, or unset it"
        )
    pool = given.get("MLFLOW_SQLALCHEMYSTORE_POOLCLASS")
    if pool and pool not in _POOLS:
        raise variable_failure(
            f"MLFLOW_SQLALCHEMYSTORE_POOLCLASS is {safe_repr(pool)}",
            f"set it to one of {', '.join(_POOLS)}, or unset it",
        )
    for variable in _typed_variables():
        if variable.name in named:
            _check_type(variable, given[variable.name])


def check_address(uri: str) -> None:
    """Checks the address of a tracking server or database.

    Raises:
        Failure: MLflow cannot record at this address.
    """
    scheme = uri.partition(":")[0]
    if scheme in ("http", "https"):
        right = is_web_address(uri)
    else:
        right = (scheme.partition("+")[0] in _DATABASES and "://" in uri) or uri.startswith(_HOSTED)
    if not right:
        raise Failure(
            "MLflow cannot record at this address",
            where=uri,
            remedy="set MLFLOW_TRACKING_URI to http://host:port, or to the address of a database such as"
            " sqlite:////path/mlflow.db, or unset it",
            exit_code=ExitCode.USAGE,
        )


def _check_type(variable: Any, value: str) -> None:
    if variable.type is bool:
        if value.lower() not in ("true", "false", "1", "0"):
            raise variable_failure(
                f"{variable.name} must be true or false, got {safe_repr(value)}", "set it to true or false, or unset it"
            )
    elif variable.type in (int, float):
        limit = _RANGES.get(variable.name)
        try:
            problem = limit.problem(variable.type(value)) if limit else None
            variable.type(value)
        except ValueError:
            kind = "whole number" if variable.type is int else "number"
            problem = f"must be a {kind}{f' {limit}' if limit else ''}, got {safe_repr(value)}"
        if problem:
            raise variable_failure(f"{variable.name} {problem}", "set it to a number in this range, or unset it")


@cache
def _typed_variables() -> tuple[Any, ...]:
    """MLflow's definitions of its variables, read without `import mlflow`, which a wrong variable may make fail."""
    return tuple(_read_variables())


def _read_variables() -> Iterator[Any]:
    package = find_spec("mlflow")
    for folder in (package.submodule_search_locations or ()) if package else ():
        path = Path(folder) / "environment_variables.py"
        if not path.is_file():
            continue
        spec = spec_from_file_location("mlflow_environment_variables", path)
        if spec is None or spec.loader is None:
            continue
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        for value in vars(module).values():
            if hasattr(value, "name") and hasattr(value, "type"):
                yield value
