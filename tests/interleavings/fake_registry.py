"""MLflow's model registry in memory, with only the calls that create versions and move aliases.

tests/interleavings/test_fake_registry.py makes the same calls to it and to MLflow on SQLite, and compares the answers.
"""

import re
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_ALREADY_EXISTS, RESOURCE_DOES_NOT_EXIST

_CONDITION = re.compile(r"name ?= ?'([^']*)'(?: and tags\.`([^`]*)`='([^']*)')?")


class Page(list):
    """A page of results, which is the last one."""

    token = None


@dataclass
class _Version:
    tags: dict[str, str]
    source: str
    run_id: str | None
    description: str = ""


@dataclass
class _Model:
    tags: dict[str, str] = field(default_factory=dict)
    versions: dict[str, _Version] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    made: int = 0


class FakeRegistry:
    """The part of `MlflowClient` that `components.register` and `pipelines.registry.promotion` use under the lock."""

    tracking_uri = "memory"

    def __init__(self) -> None:
        self.models: dict[str, _Model] = {}

    def create_registered_model(self, name: str) -> None:
        if name in self.models:
            raise MlflowException("it exists", RESOURCE_ALREADY_EXISTS)
        self.models[name] = _Model()

    def search_registered_models(self, max_results: int = 100) -> Page:
        return Page(SimpleNamespace(name=name) for name in sorted(self.models))

    def get_registered_model(self, name: str) -> Any:
        model = self._model(name)
        return SimpleNamespace(name=name, tags=dict(model.tags), aliases=dict(model.aliases))

    def set_registered_model_tag(self, name: str, key: str, value: str) -> None:
        self._model(name).tags[key] = value

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        self._model(name).tags.pop(key, None)

    def create_model_version(
        self, name: str, source: str, run_id: str | None = None, tags: dict[str, str] | None = None
    ) -> Any:
        model = self._model(name)
        model.made = max([model.made, *map(int, model.versions)]) + 1
        model.versions[str(model.made)] = _Version(dict(tags or {}), source, run_id)
        return self._shown(name, str(model.made))

    def get_model_version(self, name: str, version: str) -> Any:
        self._version(name, version)
        return self._shown(name, str(version))

    def search_model_versions(self, condition: str, max_results: int = 200, page_token: str | None = None) -> Page:
        found = _CONDITION.fullmatch(condition)
        assert found, condition
        name, tag, value = found.groups()
        versions = self.models[name].versions if name in self.models else {}
        fits = [version for version, kept in versions.items() if tag is None or kept.tags.get(tag) == value]
        return Page(self._shown(name, version, with_aliases=False) for version in fits)

    def update_model_version(self, name: str, version: str, description: str) -> None:
        self._version(name, version).description = description

    def delete_model_version(self, name: str, version: str) -> None:
        self._version(name, version)
        model = self._model(name)
        del model.versions[str(version)]
        model.aliases = {alias: held for alias, held in model.aliases.items() if held != str(version)}

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        self._version(name, version).tags[key] = value

    def delete_model_version_tag(self, name: str, version: str, key: str) -> None:
        self._version(name, version).tags.pop(key, None)

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self._version(name, version)
        self._model(name).aliases[alias] = str(version)

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        self._model(name).aliases.pop(alias, None)

    def get_model_version_by_alias(self, name: str, alias: str) -> Any:
        version = self._model(name).aliases.get(alias)
        if version is None:
            raise MlflowException("no such alias", INVALID_PARAMETER_VALUE)
        return self._shown(name, version)

    def _model(self, name: str) -> _Model:
        if name not in self.models:
            raise MlflowException("no such model", RESOURCE_DOES_NOT_EXIST)
        return self.models[name]

    def _version(self, name: str, version: str) -> _Version:
        if (kept := self._model(name).versions.get(str(version))) is None:
            raise MlflowException("no such version", RESOURCE_DOES_NOT_EXIST)
        return kept

    def _shown(self, name: str, version: str, *, with_aliases: bool = True) -> Any:
        model = self._model(name)
        kept = model.versions[version]
        return SimpleNamespace(
            name=name,
            version=version,
            tags=dict(kept.tags),
            source=kept.source,
            run_id=kept.run_id,
            description=kept.description,
            status="READY",
            aliases=[alias for alias, held in model.aliases.items() if with_aliases and held == version],
        )
