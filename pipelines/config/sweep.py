"""Reads the `--set` options of a sweep: a list varies a setting, another value replaces it in all trials."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from components.shared.base.address import is_registered
from components.shared.base.failure import ExitCode, Failure
from components.shared.base.model_address import ModelAddress
from components.sweep.space import Dimension, parse_space
from pipelines.config.settings import RunSettings, load
from pipelines.config.yaml_text import InvalidYaml, parse_yaml


def split_space(profile: str, overrides: Iterable[str]) -> tuple[tuple[Dimension, ...], list[str]]:
    """The settings that vary, and the overrides of all trials.

    Raises:
        Failure: there is no such setting, a value is not valid, no setting varies, or an alias names the version from
            which the trials start.
    """
    fixed: list[str] = []
    varied: list[str] = []
    listed = _settings_that_are_lists(profile)
    for override in overrides:
        name, _, text = override.partition("=")
        (varied if _is_list(text) and name.strip() not in listed else fixed).append(override)
    dimensions = parse_space(varied)
    for dimension in dimensions:
        for value in dimension.values:
            _refuse_alias(load(profile, [*fixed, f"{dimension.setting}={json.dumps(value)}"]))
    return dimensions, fixed


def _refuse_alias(settings: RunSettings) -> None:
    """Refuses an alias as the start of the trials, which would start from other versions after it has moved."""
    for setting, address in (
        ("train.pretrained", settings.train.pretrained or ""),
        ("tokenize.tokenizer", settings.tokenize.tokenizer),
        *(("train.distill", teacher) for teacher in settings.train.distill),
    ):
        if is_registered(address) and ModelAddress.parse(address).alias:
            raise Failure(
                f"The alias {address} may move while a sweep runs, and all its trials start from one version",
                where=setting,
                remedy="name the version by its number, as in models:/NAME/VERSION",
                exit_code=ExitCode.USAGE,
            )


def _is_list(text: str) -> bool:
    try:
        return isinstance(parse_yaml(text), list)
    except InvalidYaml:
        return False


def _settings_that_are_lists(profile: str) -> set[str]:
    sections: dict[str, Any] = json.loads(load(profile).to_json())
    return {
        f"{section}.{key}"
        for section, values in sections.items()
        if isinstance(values, dict)
        for key, value in values.items()
        if isinstance(value, list)
    }
