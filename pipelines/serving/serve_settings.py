"""How `wikigpt serve` serves a version on this machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from components.shared.base.ranges import Range, check_ranges
from pipelines.serving.smoke import Limits


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """How a version is served on this machine.

    Attributes:
        host: the IP address of the users' port.
        port: the users' port.
        ready: the seconds that a new server has until it answers.
        drain: the seconds that open requests have, before the server that works on them is stopped.
        limits: what a new server must keep.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Range(1, 65_535)] = 8000
    ready: Annotated[float, Range(1, 86_400)] = 300.0
    drain: Annotated[float, Range(0, 86_400)] = 60.0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        check_ranges(self)
