"""Settings of the step that registers the model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RegisterSettings:
    """How a model is registered. What moves the alias is among the settings of the evaluation.

    Attributes:
        patience: seconds to wait for another run or command that changes the same registered model.
    """

    patience: float = 600.0

    def __post_init__(self) -> None:
        if self.patience < 0:
            raise ValueError(f"patience must be 0 or above, got {self.patience}")
