"""The registry in memory answers as MLflow on SQLite does."""

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tests.interleavings.fake_registry import FakeRegistry

_NAMES, _VERSIONS, _TAGS = ("wikigpt", "wikigpt-prod"), ("1", "2", "3", "4"), ("a.b", "c")
_VALUES, _ALIASES = ("x", "y", ""), ("champion", "challenger")


def draw_call(draw: random.Random) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    name, version, tag = draw.choice(_NAMES), draw.choice(_VERSIONS), draw.choice(_TAGS)
    value, alias = draw.choice(_VALUES), draw.choice(_ALIASES)
    return draw.choice(
        [
            ("create_registered_model", (name,), {}),
            ("get_registered_model", (name,), {}),
            ("search_registered_models", (), {"max_results": 1000}),
            ("set_registered_model_tag", (name, tag, value), {}),
            ("delete_registered_model_tag", (name, tag), {}),
            ("create_model_version", (name, "file:///nowhere"), {"tags": {tag: value}}),
            ("create_model_version", (name, "file:///nowhere"), {}),
            ("get_model_version", (name, version), {}),
            ("search_model_versions", (f"name='{name}'",), {}),
            ("search_model_versions", (f"name='{name}' and tags.`{tag}`='{value or 'x'}'",), {"max_results": 200}),
            ("update_model_version", (name, version), {"description": value}),
            ("delete_model_version", (name, version), {}),
            ("set_model_version_tag", (name, version, tag, value), {}),
            ("delete_model_version_tag", (name, version, tag), {}),
            ("set_registered_model_alias", (name, alias, version), {}),
            ("set_registered_model_alias", (name, alias, version), {}),
            ("delete_registered_model_alias", (name, alias), {}),
            ("get_model_version_by_alias", (name, alias), {}),
        ]
    )


def answer(client: Any, call: tuple[str, tuple[Any, ...], dict[str, Any]]) -> Any:
    method, args, kwargs = call
    try:
        return plain(method, getattr(client, method)(*args, **kwargs))
    except MlflowException as error:
        return error.error_code


def plain(method: str, value: Any) -> Any:
    if method == "get_registered_model":
        return value.name, value.tags, {alias: str(version) for alias, version in value.aliases.items()}
    if method == "search_registered_models":
        return [model.name for model in value]
    if method == "search_model_versions":
        return sorted(shown(version) for version in value), value.token
    if method.startswith("get_") or method == "create_model_version":
        return shown(value)
    return None


def shown(version: Any) -> tuple[Any, ...]:
    tags, run = sorted(version.tags.items()), version.run_id or None
    return str(version.version), tags, sorted(version.aliases), version.description or "", version.source, run


@pytest.mark.slow
def test_the_same_calls_have_the_same_answers(empty_database: Path, tmp_path: Path) -> None:
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    real, fake, draw = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}"), FakeRegistry(), random.Random(2)
    seen = set()
    for number in range(400):
        call = draw_call(draw)
        expected = answer(real, call)
        assert answer(fake, call) == expected, (number, call)
        seen.add((call[0], isinstance(expected, str)))
    methods = {name for name in vars(FakeRegistry) if not name.startswith("_")} - {"tracking_uri"}
    assert {method for method, failed in seen if not failed} == methods
