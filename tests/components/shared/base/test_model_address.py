"""Addresses of registered versions."""

from __future__ import annotations

import pytest

from components.shared.base.address import is_on_hub, is_registered
from components.shared.base.model_address import ModelAddress

DIGEST = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("models:/wikigpt/7", ("wikigpt", "7", "", "")),
        ("models:/wikigpt@champion", ("wikigpt", "", "champion", "")),
        (f"models:/wikigpt-our.texts/12#{DIGEST}", ("wikigpt-our.texts", "12", "", DIGEST)),
    ],
)
def test_an_address_is_read_and_written(text: str, parts: tuple[str, ...]) -> None:
    address = ModelAddress.parse(text)
    assert (address.name, address.version, address.alias, address.digest) == parts
    assert str(address) == text
    assert is_registered(text)
    assert not is_on_hub(text)


@pytest.mark.parametrize(
    "text",
    [
        "models:/", "models:/wikigpt", "models:/wikigpt/", "models:/wikigpt/latest", "models:/wikigpt/0",
        "models:/wikigpt/7.5", "models:/wikigpt@", "models:/wikigpt@a/7", "models:/wikigpt/7#abc", "models://wikigpt/7",
        f"models:/wikigpt@champion#{DIGEST}", "models:/wikigpt/7 ", "models:/wikigpt/7/model",
    ],
)  # fmt: skip
def test_any_other_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="models:/NAME/VERSION"):
        ModelAddress.parse(text)
