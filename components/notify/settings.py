"""Settings of the notice."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class NotifySettings:
    """Where the end of a run is told, besides the log and MLflow.

    Attributes:
        webhook: an address that takes a JSON document by POST; whoever reads the settings reads it.
        webhook_variable: the environment variable that holds the address instead, where it is a secret.
        timeout: seconds that one delivery may take.
    """

    webhook: str | None = None
    webhook_variable: str = "WIKIGPT_WEBHOOK"
    timeout: float = 5.0

    def __post_init__(self) -> None:
        if self.webhook is not None and not re.match(r"https?://[^/]", self.webhook):
            raise ValueError("webhook must be an http:// or https:// address")
        if not self.webhook_variable:
            raise ValueError("webhook_variable must name an environment variable, got nothing")
        if self.timeout <= 0:
            raise ValueError(f"timeout must be above 0, got {self.timeout}")
