"""The path of a file is read back from its address."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import make_url

from components.shared.tracking.local_address import folder_address, folder_path, sqlite_address, sqlite_path
from tests.odd_paths import odd_names

NAMES = [
    "plain",
    "h x",
    "h%20x",
    "h?q",
    "h#f",
    "a&b=c",
    "q'u\"o",
    "[x]{y}",
    "ü中文ไทย",
    "new\nline",
    "%",
    "%%2525",
    "a+b",
]


@pytest.mark.parametrize("name", NAMES + odd_names(200, seed=0))
def test_a_path_comes_back_from_its_addresses(name: str) -> None:
    path = Path("/tmp") / name / "mlflow.db"
    assert sqlite_path(sqlite_address(path)) == path
    assert make_url(sqlite_address(path)).database == str(path)
    assert folder_path(folder_address(path)) == path


def test_a_plain_path_has_the_usual_address() -> None:
    assert sqlite_address(Path("/home/me/.wikigpt/mlflow.db")) == "sqlite:////home/me/.wikigpt/mlflow.db"
    assert folder_address(Path("/home/me/.wikigpt")) == Path("/home/me/.wikigpt").as_uri()


@pytest.mark.parametrize(
    "address",
    ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true", "http://host/x", "postgresql://host/mlflow"],
)
def test_the_address_of_a_server_has_no_path(address: str) -> None:
    assert sqlite_path(address) is None


def test_addresses_in_other_forms_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sqlite_path("sqlite:///mlflow.db") == tmp_path / "mlflow.db"
    assert folder_path("file:/a/b%20c") == folder_path("/a/b c") == Path("/a/b c")
    assert folder_path("mlflow-artifacts:/0") is folder_path("s3://bucket/x") is None
