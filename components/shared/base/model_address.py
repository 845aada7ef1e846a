"""Addresses of registered versions: `models:/NAME/VERSION` and `models:/NAME@ALIAS`, as MLflow writes them.

An alias moves, and a version may be deleted and its files damaged. So a run replaces both once, at its start, by
`models:/NAME/VERSION#DIGEST`, where the digest is that of the weights. This address means the same weights for ever.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from components.shared.base.address import is_registered
from components.shared.base.ranges import safe_repr

FORMS = "models:/NAME/VERSION or models:/NAME@ALIAS"
_ADDRESS = re.compile(
    r"models:/(?P<name>[^/@#:]+)(?:@(?P<alias>[A-Za-z0-9_-]+)|/(?P<version>[1-9][0-9]*)(?:#(?P<digest>[0-9a-f]{64}))?)"
)


@dataclass(frozen=True)
class ModelAddress:
    """The address of a registered version, by its number or by an alias.

    Attributes:
        name: the name of the registered model.
        version: the number of the version; "" where an alias names it.
        alias: the alias; "" where a number names it.
        digest: the digest of the weights; "" where the address does not pin them.
    """

    name: str
    version: str = ""
    alias: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> ModelAddress:
        """Reads an address.

        Raises:
            ValueError: it does not have one of the forms.
        """
        found = _ADDRESS.fullmatch(text)
        if found is None:
            raise ValueError(f"not {FORMS}")
        return cls(**{part: value or "" for part, value in found.groupdict().items()})

    def __str__(self) -> str:
        if self.alias:
            return f"models:/{self.name}@{self.alias}"
        return f"models:/{self.name}/{self.version}" + (f"#{self.digest}" if self.digest else "")

    @property
    def label(self) -> str:
        """The version without scheme and digest, as in the tags of the registry: `NAME/VERSION`."""
        return f"{self.name}/{self.version}"


def require_model_address(setting: str, address: str) -> None:
    """Checks that an address which begins with `models:/` has one of its forms. Every other address passes.

    Raises:
        ValueError: it has none; the message begins with the setting.
    """
    if is_registered(address):
        require_version(setting, address)


def require_version(setting: str, address: str) -> None:
    """Checks that an address is that of a registered version.

    Raises:
        ValueError: it is not; the message begins with the setting.
    """
    try:
        ModelAddress.parse(address)
    except ValueError:
        raise ValueError(f"{setting} must be {FORMS}, got {safe_repr(address)}") from None
