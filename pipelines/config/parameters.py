"""The typed parameters of the pipeline, with which a person, a command or a schedule requests a run.

They are few, because people fill them in by hand in the Kubeflow UI: a profile, and what the run changes of it. The
first step composes the settings of the run from them, by the profiles of its image. So the same request has the same
settings and reuse keys, wherever it comes from.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import yaml

from components.notify.settings import NotifySettings
from components.shared.base.failure import ExitCode, Failure
from components.shared.base.ranges import safe_repr
from components.shared.runtime.secrets import fill_in_secrets
from components.shared.runtime.settings import parse_section
from pipelines.config.settings import SECTIONS, RunSettings, compose, load, no_such_profile, profile_names, read_values

_log = logging.getLogger(__name__)

PROFILE_SEED = -1
# The parameters that stand for one setting, and the value that keeps the setting of the profile.
_SHORTHANDS = {
    "corpus": ("download.corpus", ""),
    "seed": ("train.seed", PROFILE_SEED),
    "force": ("download.force", False),
}


@dataclass(frozen=True, kw_only=True)
class RunParameters:
    """The parameters of the pipeline.

    Attributes:
        profile: the name of a profile of the project.
        corpus: replaces the corpus of the profile; "" keeps it.
        seed: replaces the seed of the training; `PROFILE_SEED` keeps it.
        force: whether the run trains even if a version, a model or a checkpoint exists.
        overrides: further settings, each `section.key=value`, with the value in YAML.
    """

    profile: str = "quick"
    corpus: str = ""
    seed: int = PROFILE_SEED
    force: bool = False
    overrides: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The arguments of the pipeline by name."""
        return asdict(self)

    def all_overrides(self) -> list[str]:
        """The overrides together with those that the other parameters stand for.

        Raises:
            Failure: an override belongs to the cluster, or a setting is given twice.
        """
        keys = {override.partition("=")[0].strip() for override in self.overrides}
        for key in sorted(keys):
            if key.split(".")[0] == "cluster":
                raise _wrong(
                    f"The setting {safe_repr(key)} is compiled into the pipeline, and a run cannot change it",
                    "set it when the pipeline is compiled, as in wikigpt submit --set",
                )
        own = []
        for name, (key, unchanged) in _SHORTHANDS.items():
            if (value := getattr(self, name)) == unchanged:
                continue
            if key in keys:
                raise _wrong(f"The parameter {name} and the override {key} are both given", "remove one of them")
            own.append(f"{key}={_to_yaml(value)}")
        return [*self.overrides, *own]


@dataclass(frozen=True)
class TrainPod:
    """The hardware of the train step, which decides the numerics that a profile leaves open.

    Attributes:
        gpus: the number of its GPUs.
        cores: the number of its whole CPU cores.
    """

    gpus: int
    cores: int

    def with_numerics(self, settings: RunSettings) -> RunSettings:
        """Fills in device, precision and threads of the training.

        Raises:
            Failure: the settings demand a GPU, and there is none.
        """
        train = settings.train
        device, precision = train.device, train.precision
        if device == "auto":
            device = "cuda" if self.gpus else "cpu"
        if device == "cuda" and not self.gpus:
            raise _wrong(
                "The settings train on a GPU (train.device is cuda), and the train step of this pipeline has none",
                "choose another profile, or compile the pipeline with --set cluster.train.gpus=1",
            )
        if precision == "auto":  # the processor of the pod is unknown before it runs
            precision = "bfloat16" if device == "cuda" else "float32"
        threads = train.threads or self.cores
        return settings.with_values("train", device=device, precision=precision, threads=threads)


def parameters_of(values: dict[str, Any]) -> RunParameters:
    """The parameters with which a run has the given settings.

    Args:
        values: all settings by section, and the name of their profile, as in `RunSettings.to_json`.
    """
    names = [values["profile"]] if values["profile"] in profile_names() else profile_names()
    profile, changed = min(((name, _differences(values, name)) for name in names), key=lambda each: len(each[1]))
    shorthands = {name: changed.pop(key) for name, (key, _) in _SHORTHANDS.items() if key in changed}
    return RunParameters(
        profile=profile, **shorthands, overrides=[f"{key}={_to_yaml(value)}" for key, value in sorted(changed.items())]
    )


def composer(
    profile: str,
    corpus: str,
    seed: int,
    force: bool,
    overrides: Iterable[str],
    train_gpus: int,
    train_cores: int,
    trial: str = "",
) -> Callable[[], str]:
    """A function that composes the settings of a run as JSON. Its arguments are those of the download step."""
    given = [*overrides, *(json.loads(trial)["overrides"] if trial else ())]
    parameters = RunParameters(profile=profile, corpus=corpus, seed=seed, force=force, overrides=given)
    return partial(compose_settings, parameters, TrainPod(train_gpus, train_cores))


def run_of(trial: str) -> str:
    """The id of the run of a trial of a sweep; "" if there is none."""
    return str(json.loads(trial)["run"]) if trial else ""


def compose_settings(parameters: RunParameters, pod: TrainPod) -> str:
    """Composes the settings of a run as JSON. References to secrets are checked and stay references.

    Raises:
        Failure: a parameter or a setting is not valid, or a secret is not set.
    """
    if parameters.profile not in profile_names():
        raise no_such_profile(parameters.profile, "the parameter profile")
    _, values = read_values(parameters.profile, parameters.all_overrides(), given_by="the parameter overrides")
    sections = {name: values.get(name, {}) for name in SECTIONS}
    filled = {name: fill_in_secrets(own) for name, own in sections.items()}
    settings = pod.with_numerics(compose(filled, name=parameters.profile))
    composed: dict[str, Any] = json.loads(settings.to_json())
    for name, own in sections.items():
        composed[name].update({key: value for key, value in own.items() if value != filled[name][key]})
    return json.dumps(composed, sort_keys=True)


def notify_composer(profile: str, overrides: Iterable[str]) -> Callable[[], str]:
    """A function that composes the settings of notify as JSON.

    The end of a run with wrong parameters is reported too: settings that are not valid are left out with a warning.
    """
    own = [override for override in overrides if override.strip().startswith("notify.")]
    return partial(_notify_settings, profile, own)


def _notify_settings(profile: str, overrides: list[str]) -> str:
    for name, given in ((profile, overrides), (profile, []), (RunParameters.profile, [])):
        try:
            values = read_values(name, given, given_by="the parameter overrides")[1].get("notify", {})
            parse_section(NotifySettings, fill_in_secrets(values), "notify")
        except Failure as failure:
            _log.warning("Settings of notify are left out: %s", failure)
        else:
            return json.dumps({"notify": values})
    raise AssertionError("a profile of the project is not valid")


def _differences(values: dict[str, Any], profile: str) -> dict[str, Any]:
    """The settings that are not those of a profile, by `section.key`."""
    base = json.loads(load(profile).to_json())
    return {
        f"{section}.{key}": value
        for section in SECTIONS
        for key, value in values[section].items()
        if value != base[section][key]
    }


def _to_yaml(value: Any) -> str:
    """A value on one line of YAML. Text is quoted where it would be read as something else."""
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return text.removesuffix("\n").removesuffix("\n...")


def _wrong(what: str, remedy: str) -> Failure:
    return Failure(what, where="the parameters of the run", remedy=remedy, exit_code=ExitCode.USAGE)
