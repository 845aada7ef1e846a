"""Settings of the register step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from components.shared.base.ranges import Form, Range, check_ranges

_ACCOUNT = Form(r"[^,\x00-\x1f]{1,200}", "the name of an MLflow account, of at most 200 characters, without commas")


@dataclass(frozen=True, kw_only=True)
class RegisterSettings:
    """How a model is registered. The settings of the gate belong to the evaluate step.

    Attributes:
        patience: the seconds to wait for another run or command that changes the same registered model.
        promoters: the MLflow accounts that may move the alias champion. If the alias was moved by another one, or
            MLflow does not say by whom, the champion before it stays the approved one (docs/registry.md). If it is
            empty, those of the environment variable `WIKIGPT_PROMOTERS`, and if there are none, everyone.
    """

    patience: Annotated[float, Range(0, 86_400)] = 600.0
    promoters: Annotated[tuple[str, ...], _ACCOUNT] = ()

    def __post_init__(self) -> None:
        check_ranges(self)
