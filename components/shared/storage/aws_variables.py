"""The variables that boto3 reads, looked at before it does: of a wrong one it says that the endpoint is away."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from components.shared.base.address import is_web_address
from components.shared.base.failure import ExitCode, Failure
from components.shared.base.ranges import Range, safe_repr

# They travel in a header; the secret key does not, and may hold any sign but those that a file ends with.
_IN_HEADERS = {
    "AWS_ACCESS_KEY_ID": r"[\x21-\x7e]*",
    "AWS_SESSION_TOKEN": r"[\x21-\x7e]*",
    "AWS_SECRET_ACCESS_KEY": r"(?!\s)[^\x00-\x1f\x7f]*(?<!\s)",
}
_COUNTS = {
    "AWS_MAX_ATTEMPTS": Range(1, 100),
    "AWS_METADATA_SERVICE_TIMEOUT": Range(1, 3600),
    "AWS_METADATA_SERVICE_NUM_ATTEMPTS": Range(1, 100),
}
_ADDRESSES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_FILES = ("AWS_CA_BUNDLE", "AWS_WEB_IDENTITY_TOKEN_FILE")


def check_aws_variables(environment: Mapping[str, str] | None = None) -> None:
    """Looks at the variables that boto3 takes for granted.

    Raises:
        Failure: one cannot be used. It names the variable, and never shows a credential.
    """
    given = os.environ if environment is None else environment
    for name, pattern in _IN_HEADERS.items():
        if name in given and not re.fullmatch(pattern, given[name]):
            raise _wrong(
                f"{name} holds a blank, a line break or another sign that no credential has",
                "set it without that; a Secret that is made of a file often ends with a line break",
                ExitCode.UNAUTHORISED,
            )
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if not re.fullmatch(r"[A-Za-z0-9-]*", given.get(name, "")):
            raise _wrong(f"{name} is {safe_repr(given[name])}", "name a region, as in eu-central-1")
    for name in _ADDRESSES:
        if given.get(name) and not is_web_address(given[name]):
            raise _wrong(f"{name} is {safe_repr(given[name])}", "give an address that begins with http:// or https://")
    for name, limit in _COUNTS.items():
        if name in given and (problem := _problem(given[name], limit)):
            raise _wrong(f"{name} {problem}", "set it to such a number, or unset it")
    for name in _FILES:
        if given.get(name) and not Path(given[name]).exists():
            raise _wrong(f"{name} names {safe_repr(given[name])}, which is not there", "mount the file, or unset it")


def _problem(text: str, limit: Range) -> str | None:
    if not re.fullmatch(r"-?[0-9]{1,40}", text):
        return f"must be a whole number {limit}, got {safe_repr(text)}"
    return limit.problem(int(text))


def _wrong(what: str, remedy: str, exit_code: ExitCode = ExitCode.USAGE) -> Failure:
    return Failure(what, where="the environment", remedy=remedy, exit_code=exit_code)
