"""The settings of a run: those of the steps, composed, from a profile and what a person overrides.

A profile is YAML over the typed settings, a section a step. The section `cluster` is fixed when the pipeline is
compiled (image, resources, secrets); all others may change from run to run and travel as one JSON string.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from components.download.settings import DownloadSettings
from components.evaluate.settings import EvaluateSettings
from components.notify.settings import NotifySettings
from components.register.settings import RegisterSettings
from components.shared.failure import ExitCode, Failure
from components.shared.settings import parse_section
from components.tokenize.settings import TokenizeSettings
from components.train.settings import CheckpointSettings, TrainSettings
from components.validate.settings import ValidateSettings
from pipelines.cluster.settings import ClusterSettings

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
    """The settings of every step and of the cluster, checked."""

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
        """What travels to the steps: every setting of every section, defaults included."""
        sections = {name: asdict(getattr(self, name)) for name in SECTIONS}
        return json.dumps({"profile": self.profile, **sections}, sort_keys=True)

    def with_values(self, section: str, **values: Any) -> RunSettings:
        """A copy with some values of one section replaced and checked."""
        merged = {**asdict(getattr(self, section)), **values}
        return replace(self, **{section: parse_section(SECTIONS[section], merged, section)})


def load(profile: str, overrides: Iterable[str] = ()) -> RunSettings:
    """The settings of a profile with overrides.

    Args:
        profile: a name among `profile_names()`, or the path of a YAML file.
        overrides: each `section.key=value`, the value in YAML; keys of the cluster may go deeper.

    Raises:
        Failure: no such profile, section or key (the nearest right one is named), or a value that does not fit.
    """
    values = _read(profile)
    for override in overrides:
        _apply(override, values)
    return compose(values, name=Path(profile).stem)


def compose(values: dict[str, Any], name: str) -> RunSettings:
    """Checked settings from plain values by section; sections and keys that are left out have their defaults."""
    for section in values.keys() - SECTIONS.keys() - {"description", "profile", "cluster"}:
        raise _unknown_section(section)
    checked: dict[str, Any] = {
        section: parse_section(kind, values.get(section, {}), section)
        for section, kind in {**SECTIONS, "cluster": ClusterSettings}.items()
    }
    return RunSettings(profile=name, description=" ".join(str(values.get("description", "")).split()), **checked)


def profile_names() -> list[str]:
    """Names of the profiles that come with the project."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def _read(profile: str) -> dict[str, Any]:
    path = Path(profile) if profile.endswith((".yaml", ".yml")) else PROFILES / f"{profile}.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        nearest = get_close_matches(profile, profile_names(), n=1, cutoff=0.4)
        hint = f"did you mean {nearest[0]}? " if nearest else ""
        raise Failure(
            f"There is no profile {profile!r}",
            where="--profile",
            remedy=f"{hint}The profiles are {', '.join(profile_names())}; a path to a YAML file works too",
            exit_code=ExitCode.USAGE,
        ) from None
    except yaml.YAMLError as error:
        raise _not_yaml(yaml_complaint(error), path) from None
    if not isinstance(values, dict):
        raise _not_yaml("no sections", path)
    for section in (*SECTIONS, "cluster"):
        if values.get(section) is None:
            values.pop(section, None)  # its name alone: all of it as by default
        elif not isinstance(values[section], dict):
            raise _not_yaml(f"the section {section} holds no settings", path)
    return values


def _apply(override: str, values: dict[str, Any]) -> None:
    name, equals, text = override.partition("=")
    section, *keys = name.strip().split(".")
    if not (equals and keys and all(keys)) or (len(keys) > 1 and section != "cluster"):
        raise Failure(
            f"Cannot read the setting {override!r}",
            where="--set",
            remedy="write it as section.key=value, as in --set train.learning_rate=3e-4",
            exit_code=ExitCode.USAGE,
        )
    if section not in (*SECTIONS, "cluster"):
        raise _unknown_section(section)
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    for key in (section, *keys[:-1]):
        if not isinstance(values.get(key), dict):
            values[key] = {}
        values = values[key]
    values[keys[-1]] = value


def _unknown_section(section: str) -> Failure:
    sections = [*SECTIONS, "cluster"]
    nearest = get_close_matches(section, sections, n=1, cutoff=0.0)[0]
    return Failure(
        f"There is no section {section!r} of settings",
        where="the profile or --set",
        remedy=f"did you mean {nearest}? The sections are {', '.join(sections)}",
        exit_code=ExitCode.USAGE,
    )


def yaml_complaint(error: yaml.YAMLError) -> str:
    """What YAML says of a text, in one line, with the place."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return f"{problem} in line {mark.line + 1}" if mark and problem else str(error).splitlines()[0]


def _not_yaml(why: str, path: Path) -> Failure:
    return Failure(
        f"The profile is not YAML with sections of settings: {why}",
        where=str(path),
        remedy="mend it",
        exit_code=ExitCode.USAGE,
    )
