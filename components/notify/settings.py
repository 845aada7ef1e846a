"""Settings of the notify step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from components.shared.base.address import is_web_address
from components.shared.base.ranges import Form, Range, check_ranges

_VARIABLE = Form(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable")


@dataclass(frozen=True, kw_only=True)
class NotifySettings:
    """Where the end of a run is reported, besides the log and MLflow.

    Attributes:
        webhook: an address that accepts a JSON document by POST; it is visible to everybody who can read the settings.
        webhook_variable: the environment variable that holds the address instead, if it is a secret.
        timeout: the seconds for connecting and for each read of one attempt.
    """

    webhook: str | None = None
    webhook_variable: Annotated[str, _VARIABLE] = "WIKIGPT_WEBHOOK"
    timeout: Annotated[float, Range(0.1, 60)] = 5.0

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.webhook is not None and not is_web_address(self.webhook):
            raise ValueError("webhook must be an http:// or https:// address")
