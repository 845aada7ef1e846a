"""What addresses are, and what is shown of them."""

from __future__ import annotations

import pytest

from components.shared.address import is_folder, is_on_hub, shown
from components.shared.tracking import settings_for_the_record


@pytest.mark.parametrize(
    ("address", "without_secrets"),
    [
        ("https://user:pa@ss@host.example/a.zip?token=x#y", "https://host.example/a.zip"),
        ("https://host.example?token=x", "https://host.example"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("sqlite:////tmp/mlflow.db", "sqlite:////tmp/mlflow.db"),
        ("postgresql://mlflow:pw@db.example:5432/mlflow", "postgresql://db.example:5432/mlflow"),
        ("/data/what?", "/data/what?"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_its_secrets(address: str, without_secrets: str) -> None:
    assert shown(address) == without_secrets


def test_the_record_of_settings_has_no_secrets() -> None:
    settings = {
        "profile": "quick",
        "download": {"corpus": "https://user:pa@ss@host.example/a.zip?token=x", "force": False},
        "notify": {"webhook": "https://hooks.example/secret"},
    }
    corpus = {"corpus": "https://host.example/a.zip", "force": False}
    assert settings_for_the_record(settings) == {"profile": "quick", "download": corpus}


def test_a_name_is_on_the_hub_unless_it_begins_as_a_folder() -> None:
    assert [is_folder(each) for each in ("/a", "./a", "../a", "~/a", "a", "a/b", "s3://a/b")] == [True] * 4 + [
        False
    ] * 3
    assert [is_on_hub(each) for each in ("./a", "s3://a/b", "gpt2", "team/tiny")] == [False, False, True, True]
