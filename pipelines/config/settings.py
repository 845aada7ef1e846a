"""The settings of a run: those of all steps, from a profile and the user's overrides.

A profile is a YAML file with one section per step, and the sections `checkpoints` and `cluster`. The section `cluster`
(image, resources, secrets) is compiled into the pipeline. All other sections may change from run to run: the parameters
of the pipeline name a profile and what differs from it (`pipelines.config.parameters`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from components.download.settings import DownloadSettings
from components.evaluate.settings import ADAPTIVE, EvaluateSettings
from components.notify.settings import NotifySettings
from components.register.settings import RegisterSettings
from components.shared.base.failure import ExitCode, Failure
from components.shared.base.nearest import nearest
from components.shared.base.ranges import safe_repr
from components.shared.base.renamed_keys import renamed_among
from components.shared.runtime.settings import parse_section
from components.tokenize.settings import TokenizeSettings
from components.train.settings import CheckpointSettings, TrainSettings
from components.validate.settings import ValidateSettings
from pipelines.config.cluster import ClusterSettings
from pipelines.config.yaml_text import InvalidYaml, line_of, parse_yaml, read_yaml

PROFILES = Path(__file__).parent / "profiles"
SECTIONS: dict[str, type] = {
    "download": DownloadSettings,
    "validate": ValidateSettings,
    "tokenize": TokenizeSettings,
    "train": TrainSettings,
    "checkpoints": CheckpointSettings,
    "evaluate": EvaluateSettings,
    "register": RegisterSettings,
    "notify": NotifySettings,
}


@dataclass(frozen=True)
class RunSettings:
    """The validated settings of every step and of the cluster."""

    profile: str
    description: str
    download: DownloadSettings
    validate: ValidateSettings
    tokenize: TokenizeSettings
    train: TrainSettings
    checkpoints: CheckpointSettings
    evaluate: EvaluateSettings
    register: RegisterSettings
    notify: NotifySettings
    cluster: ClusterSettings

    def to_json(self) -> str:
        """The settings that are passed to the steps: every setting of every section, with defaults."""
        sections = {name: asdict(getattr(self, name)) for name in SECTIONS}
        return json.dumps({"profile": self.profile, **sections}, sort_keys=True)

    def with_values(self, section: str, **values: Any) -> RunSettings:
        """A validated copy with some values of one section replaced."""
        merged = {**asdict(getattr(self, section)), **values}
        return replace(self, **{section: parse_section(SECTIONS[section], merged, section)})


def load(profile: str, overrides: Iterable[str] = ()) -> RunSettings:
    """The settings of a profile with overrides.

    Args:
        profile: a name among `profile_names()`, or the path of a YAML file.
        overrides: each `section.key=value`, with the value in YAML. Keys of the cluster may be nested.

    Raises:
        Failure: there is no such profile, section or key (the message names the nearest one), or a value is not valid.
    """
    file, values = read_values(profile, overrides)

    def where(path: tuple[Any, ...]) -> str | None:
        line = line_of(values, path)
        return None if line is None else f"{file}, line {line}"

    return compose(values, name=Path(profile).stem, where=where)


def compose(
    values: dict[str, Any], name: str, where: Callable[[tuple[Any, ...]], str | None] = lambda path: None
) -> RunSettings:
    """Validates plain values by section. Missing sections and keys get their defaults.

    Args:
        values: the values by section and key.
        name: the name of the profile.
        where: the file and the line of the value at a path of keys, or None.

    Raises:
        Failure: there is no such section or key, or a value is not valid.
    """
    for section in values.keys() - SECTIONS.keys() - {"description", "profile", "cluster"}:
        raise _unknown_section(section, where((section,)))
    checked: dict[str, Any] = {
        section: parse_section(kind, values.get(section, {}), section, where)
        for section, kind in {**SECTIONS, "cluster": ClusterSettings}.items()
    }
    _check_adaptable(checked["train"], checked["evaluate"], where)
    if checked["train"].pretrained is None:
        check_window(checked["train"], checked["evaluate"], where=where)
    return RunSettings(profile=name, description=" ".join(str(values.get("description", "")).split()), **checked)


def read_values(profile: str, overrides: Iterable[str] = (), given_by: str = "--set") -> tuple[Path, dict[str, Any]]:
    """The values of a profile with overrides, by section and key, before they are checked; and the file of the profile.

    Args:
        profile, overrides: see `load`.
        given_by: where the overrides come from, for the message.

    Raises:
        Failure: there is no such profile, it cannot be read, or an override cannot be read.
    """
    file, values = _read(profile)
    for override in _with_new_names(overrides, given_by):
        _apply(override, values, given_by)
    return file, values


def profile_names() -> list[str]:
    """Names of the profiles of the project."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def no_such_profile(profile: str, where: str, further: str = "") -> Failure:
    """The failure for a name that is not that of a profile."""
    hint = nearest(profile, profile_names(), cutoff=0.4)
    return Failure(
        f"There is no profile {safe_repr(profile)}",
        where=where,
        remedy=f"{f'did you mean {hint}? ' if hint else ''}The profiles are {', '.join(profile_names())}{further}",
        exit_code=ExitCode.USAGE,
    )


def _read(profile: str) -> tuple[Path, dict[str, Any]]:
    is_path = profile.lower().endswith((".yaml", ".yml")) or os.sep in profile
    path = Path(profile) if is_path else PROFILES / f"{profile}.yaml"
    try:
        if not is_path and profile not in profile_names():
            raise FileNotFoundError
        values = read_yaml(path, "profile")
    except FileNotFoundError:
        raise no_such_profile(profile, "--profile", "; a path to a YAML file works too") from None
    for section in (*SECTIONS, "cluster"):
        if values.get(section) is None:
            values.pop(section, None)  # the name alone means the defaults
        elif not isinstance(values[section], dict):
            raise Failure(
                f"The section {section} of the profile holds no settings, got {safe_repr(values[section])}",
                where=f"{path}, line {line_of(values, (section,))}",
                remedy="write `key: value` below it, each on its own line",
                exit_code=ExitCode.USAGE,
            )
    names = (f"{section}.{key}" for section in SECTIONS for key in values.get(section, ()))
    for old, new in renamed_among(names, str(path)).items():
        section, key = old.split(".")
        values[section].rename(key, new.split(".")[1])
    return path, values


def _with_new_names(overrides: Iterable[str], given_by: str) -> list[str]:
    parts = [override.partition("=") for override in overrides]
    new = renamed_among((name.strip() for name, _, _ in parts), given_by)
    return [f"{new.get(name.strip(), name)}{equals}{value}" for name, equals, value in parts]


def _apply(override: str, values: dict[str, Any], given_by: str) -> None:
    name, equals, text = override.partition("=")
    section, *keys = name.strip().split(".")
    if not (equals and keys and all(keys)) or (len(keys) > 1 and section != "cluster"):
        raise Failure(
            f"Cannot read the setting {safe_repr(override)}",
            where=given_by,
            remedy="write it as section.key=value, as in train.learning_rate=3e-4",
            exit_code=ExitCode.USAGE,
        )
    if section not in (*SECTIONS, "cluster"):
        raise _unknown_section(section, given_by)
    try:
        value = parse_yaml(text)
    except InvalidYaml:
        value = text
    for key in (section, *keys[:-1]):
        if not isinstance(values.get(key), dict):
            values[key] = {}
        values = values[key]
    values[keys[-1]] = value


def check_window(
    train: TrainSettings,
    evaluate: EvaluateSettings,
    pretrained_context: int | None = None,
    where: Callable[[tuple[Any, ...]], str | None] = lambda path: None,
) -> None:
    """Checks that the window and the stride of the evaluation fit the context of the model.

    Args:
        train: the settings that describe the model.
        evaluate: the settings of the evaluation.
        pretrained_context: the context of the pretrained model, which only its config contains; None for a model that
            is trained from scratch.
        where: the file and the line of the value at a path of keys, or None.

    Raises:
        Failure: one of them is too long.
    """
    context = (train.context, "train.context")
    default = (train.sequence_length, "train.sequence_length")
    if pretrained_context is not None:
        prefix = train.prefix_tokens if train.adapter == "prefix" else 0
        context = default = (pretrained_context - prefix, "the context of the pretrained model,")
    window = (evaluate.window, "evaluate.window") if evaluate.window else default
    for key, (most, of) in {"window": context, "stride": window}.items():
        if (value := getattr(evaluate, key)) is not None and value > most:
            raise Failure(
                f"evaluate.{key} must be at most {of} {most}, got {value}; the nearest is {most}",
                where=where(("evaluate", key)) or "settings of evaluate",
                remedy=f"lower it, or raise {of}" if pretrained_context is None else "lower it",
                exit_code=ExitCode.USAGE,
            )


def _check_adaptable(
    train: TrainSettings, evaluate: EvaluateSettings, where: Callable[[tuple[Any, ...]], str | None]
) -> None:
    asked = [name for name in evaluate.protocols if name in ADAPTIVE]
    if asked and train.adapter == "prefix":
        raise Failure(
            f"evaluate.protocols has {asked[0]}, by which a model with a trained prefix cannot be scored",
            where=where(("evaluate", "protocols")) or "settings of evaluate",
            remedy="leave it out, or choose another train.adapter",
            exit_code=ExitCode.USAGE,
        )


def _unknown_section(section: str, where: str | None = None) -> Failure:
    sections = [*SECTIONS, "cluster"]
    return Failure(
        f"There is no section {safe_repr(section)} of settings",
        where=where or "the profile or --set",
        remedy=f"did you mean {nearest(section, sections)}? The sections are {', '.join(sections)}",
        exit_code=ExitCode.USAGE,
    )
