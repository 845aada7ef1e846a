"""Settings of the register step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from components.shared.base.ranges import Form, Range, check_ranges
from components.shared.signing.keys import problem_of

_ACCOUNT = Form(r"[^,\x00-\x1f]{1,200}", "the name of an MLflow account, of at most 200 characters, without commas")


@dataclass(frozen=True, kw_only=True)
class RegisterSettings:
    """How a model is registered. The settings of the gate belong to the evaluate step.

    Attributes:
        patience: the seconds to wait for another run or command that changes the same registered model.
        promoters: the MLflow accounts that may move the alias champion. If the alias was moved by another one, or
            MLflow does not say by whom, the champion before it stays the approved one (docs/registry.md). If it is
            empty, those of the environment variable `WIKIGPT_PROMOTERS`, and if there are none, everyone.
        signing: `optional` signs a version if there is a key, `required` fails at the start of a run that has none, and
            `never` signs nothing.
        signing_key: the private key: the path of a PEM file, or a `pkcs11:` URI; None uses `WIKIGPT_SIGNING_KEY`. On a
            cluster `cluster.signing_secret` names the Secret with the key instead.
    """

    patience: Annotated[float, Range(0, 86_400)] = 600.0
    promoters: Annotated[tuple[str, ...], _ACCOUNT] = ()
    signing: Literal["optional", "required", "never"] = "optional"
    signing_key: str | None = None

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.signing_key is not None and (problem := problem_of(self.signing_key)):
            raise ValueError(f"signing_key {problem}")
