"""Reuse keys: a digest of everything that decides a result, by which a later run finds and reuses the result.

A reuse key does not identify a model: two trainings with one key may end in different weights. Only the digest of the
weights identifies a model. docs/reuse.md explains what each key contains, and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from components.shared.base.renamed_keys import with_new_names
from components.shared.reuse.code import ROOT, code_of
from components.shared.storage.manifest import digest_of

_LENGTH = 32  # hex digits

# The code that decides each result: the package of a step, without the modules in UNDECIDING, and some shared modules.
# Code that is left out only starts, reports, checks or transfers. The values of settings are in the keys themselves.
SOURCES: dict[str, tuple[str, ...]] = {
    "tokens": ("components/tokenize", "components/shared/text/articles.py"),
    "weights": ("components/train", "components/shared/model/hardware.py", "components/shared/model/head.py"),
    "evaluation": (
        "components/evaluate",
        "components/shared/text/articles.py",
        "components/shared/model/hardware.py",
        "components/shared/model/head.py",
        "components/shared/text/units.py",
    ),
    "validation": (
        "components/validate",
        "components/shared/text/articles.py",
        "components/shared/report/report.py",
        "components/shared/text/units.py",
    ),
}
UNDECIDING: dict[str, frozenset[str]] = {
    "tokens": frozenset({"component", "settings"}),
    "weights": frozenset({"checkpoint_manager", "component", "metrics", "reporter", "run", "settings"}),
    "evaluation": frozenset({"champion", "component", "pictures", "report", "settings"}),
    "validation": frozenset({"component", "settings"}),
}

# Settings that change only what a training reports, and no weight.
_WITHOUT_EFFECT_ON_WEIGHTS = frozenset({"log_every"})
# The local version, such as +cpu, is part of the numerics instead.
_VERSIONS: dict[str, tuple[str, ...]] = {
    "tokens": ("tokenizers", "transformers"),
    "weights": ("torch", "transformers", "tokenizers", "peft", "numpy"),
    "evaluation": ("torch", "transformers", "tokenizers", "sacrebleu"),
    "validation": ("great_expectations", "matplotlib"),
}


@dataclass(frozen=True)
class Request:
    """The training that a run requests, as plain values by flat names.

    Attributes:
        tokens: the values that decide the tokens.
        training: the values that decide the weights besides the tokens, from settings and code. The numerics that they
            leave open are known only on the machine that trains, see `refined`.
    """

    tokens: dict[str, Any]
    training: dict[str, Any]

    @property
    def tokens_key(self) -> str:
        """The reuse key of the tokens."""
        return key_of(self.tokens)

    @property
    def reuse_key(self) -> str:
        """The reuse key of the requested model."""
        return key_of({**self.training, "tokens": self.tokens_key})

    @property
    def identity(self) -> dict[str, Any]:
        """All values, for lineage and for `differences`."""
        return {**self.tokens, **self.training}


def request_of(dataset_digest: str, settings: dict[str, Any], contents: dict[str, str] | None = None) -> Request:
    """The training that the settings of a run request.

    Args:
        dataset_digest: the digest of the corpus.
        settings: the settings of the run by section; those of `train` include the requested numerics.
        contents: digests of the inputs that settings point to, see `components.shared.reuse.external_inputs`.
    """
    tokens = {"dataset": dataset_digest, **made_by("tokens"), **_named("tokenize", settings["tokenize"])}
    training = {**made_by("weights"), **_named("train", deciding_weights(settings["train"]))}
    for name, digest in (contents or {}).items():
        part = tokens if name.startswith("content.tokenize.") else training
        part[name] = digest
    return Request(tokens, training)


def deciding_weights(train: dict[str, Any]) -> dict[str, Any]:
    """The settings of `train` that decide weights."""
    dropped = set(_WITHOUT_EFFECT_ON_WEIGHTS)
    counted = train.get("init") == "bigram" and not train.get("pretrained")
    if train.get("device") == "cuda" and not counted:
        dropped.add("threads")  # the GPU computes everything then, whereas bigram initialisation is computed on the CPU
    return {name: value for name, value in train.items() if name not in dropped}


def deciding_numerics(numerics: dict[str, Any]) -> dict[str, Any]:
    """The numerics that decide weights: if the processor does not, its number of threads does not either."""
    dropped = {"threads"} if numerics.get("processor", "") is None else set()
    return {name: value for name, value in numerics.items() if name not in dropped}


def refined(reuse_key: str, numerics: dict[str, Any]) -> str:
    """The reuse key of a model with the numerics of its training; equal refined keys mean equal weights.

    Args:
        reuse_key: the reuse key of the request.
        numerics: see `components.train.device.numerics_of`.
    """
    return key_of({"reuse_key": reuse_key, **_named("numerics", deciding_numerics(numerics))})


def made_by(result: str) -> dict[str, str]:
    """The code digest and package versions that decide a result, one of `SOURCES`."""
    return {f"code.{result}": code_digest(result), **{f"version.{name}": _version(name) for name in _VERSIONS[result]}}


def code_digest(result: str, root: Path = ROOT) -> str:
    """The digest of the meaning of the code that decides a result, one of `SOURCES`."""
    step, *shared = SOURCES[result]
    files = [path for path in sorted((root / step).rglob("*.py")) if path.stem not in UNDECIDING[result]]
    return code_of(*files, *shared, root=root)


def key_of(parts: dict[str, Any]) -> str:
    """The digest (hex, 32 characters) of the parts of a key."""
    return digest_of(parts)[:_LENGTH]


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """The differences between two sets of parts, one phrase each, sorted by name."""
    theirs = with_new_names(theirs)
    return [
        f"{name}: {theirs.get(name)!r} then, {ours.get(name)!r} now"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]


@cache
def _version(package: str) -> str:
    return version(package).partition("+")[0]


def _named(section: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{section}.{name}": value for name, value in values.items()}
