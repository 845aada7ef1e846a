"""A package that seems absent is there again afterwards."""

import sys
from importlib import import_module
from importlib.util import find_spec

import pytest

from components.shared.base.imports import without


def test_a_package_is_absent_within_the_block_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with without("colorsys"):
        assert find_spec("colorsys") is None
        with pytest.raises(ModuleNotFoundError):
            import_module("colorsys")
    assert import_module("colorsys").rgb_to_hsv


def test_an_imported_package_stays() -> None:
    with without("pytest"):
        assert import_module("pytest") is pytest
    assert sys.modules["pytest"] is pytest
