"""Checks the environment variables of AWS, because boto3 reports a wrong one as an unreachable endpoint."""

from __future__ import annotations

import os
import re
from pathlib import Path

from components.shared.base.address import is_web_address
from components.shared.base.failure import ExitCode, variable_failure
from components.shared.base.ranges import Range, safe_repr

# The key id and the token are sent in a header. The secret key is not, so it may contain all characters but control
# characters, and spaces except at its ends.
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
RETRY_MODES = ("legacy", "standard", "adaptive")
_ADDRESSES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_FILES = ("AWS_CA_BUNDLE", "AWS_WEB_IDENTITY_TOKEN_FILE")


def check_aws_variables() -> None:
    """Checks the variables that boto3 uses without a check.

    Raises:
        Failure: a variable cannot be used. The message names the variable and never contains a credential.
    """
    given = os.environ
    for name, pattern in _IN_HEADERS.items():
        if name in given and not re.fullmatch(pattern, given[name]):
            raise variable_failure(
                f"{name} contains a space, a line break or another character that is not valid in a credential",
                "remove that character; a Secret that was made from a file often ends with a line break",
                ExitCode.UNAUTHORISED,
            )
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        if not re.fullmatch(r"[A-Za-z0-9-]*", given.get(name, "")):
            raise variable_failure(
                f"{name} is {safe_repr(given[name])}", "set it to a region such as eu-central-1, or unset it"
            )
    if given.get("AWS_RETRY_MODE") not in (None, "", *RETRY_MODES):
        raise variable_failure(
            f"AWS_RETRY_MODE is {safe_repr(given['AWS_RETRY_MODE'])}",
            f"set it to {', '.join(RETRY_MODES[:-1])} or {RETRY_MODES[-1]}, or unset it",
        )
    for name in _ADDRESSES:
        if given.get(name) and not is_web_address(given[name]):
            raise variable_failure(
                f"{name} is {safe_repr(given[name])}", "set it to an address that begins with http:// or https://"
            )
    for name, limit in _COUNTS.items():
        if name in given and (problem := _problem(given[name], limit)):
            raise variable_failure(f"{name} {problem}", "set it to a number in this range, or unset it")
    for name in _FILES:
        if given.get(name) and not Path(given[name]).exists():
            what = f"{name} names {safe_repr(given[name])}, which does not exist"
            raise variable_failure(what, "mount the file, or unset it")


def _problem(text: str, limit: Range) -> str | None:
    if not re.fullmatch(r"-?[0-9]{1,40}", text):
        return f"must be a whole number {limit}, got {safe_repr(text)}"
    return limit.problem(int(text))
