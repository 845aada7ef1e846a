"""Settings of the register step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from components.shared.base.ranges import Range, check_ranges


@dataclass(frozen=True, kw_only=True)
class RegisterSettings:
    """How a model is registered. The settings of the gate belong to the evaluate step.

    Attributes:
        patience: the seconds to wait for another run or command that changes the same registered model.
    """

    patience: Annotated[float, Range(0, 86_400)] = 600.0

    def __post_init__(self) -> None:
        check_ranges(self)
