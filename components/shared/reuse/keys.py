"""Reuse keys: what decides a result, in one digest, so that what would come out is found where it was made before.

A reuse key is no identity: two trainings of one key may end in different weights, and the digest of the weights alone
says which model something belongs to. docs/reuse.md says what is in each key, and why.
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

# Code by what it decides: the modules of a step but those that decide nothing of it, and the shared modules that do.
# What is left out only starts, reports, checks or carries; the values of settings are in the keys themselves.
SOURCES: dict[str, tuple[str, ...]] = {
    "tokens": ("components/tokenize", "components/shared/text/articles.py"),
    "weights": ("components/train", "components/shared/model/device.py", "components/shared/model/head.py"),
    "evaluation": (
        "components/evaluate",
        "components/shared/text/articles.py",
        "components/shared/model/device.py",
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

# Settings that change what is seen of a training, or how often, and no weight.
_UNSEEN_IN_WEIGHTS = frozenset({"log_every"})
# The local build, such as +cpu, is left to the numerics.
_VERSIONS: dict[str, tuple[str, ...]] = {
    "tokens": ("tokenizers", "transformers"),
    "weights": ("torch", "transformers", "tokenizers", "peft", "numpy"),
    "evaluation": ("torch", "transformers", "tokenizers", "sacrebleu"),
    "validation": ("great_expectations", "matplotlib"),
}


@dataclass(frozen=True)
class Request:
    """What a run asks to be trained, as flat names to plain values.

    Attributes:
        tokens: what decides the tokens.
        training: what decides the weights beside the tokens, as far as settings and code say it; the numerics that
            they leave open are known only where it is trained, see `refined`.
    """

    tokens: dict[str, Any]
    training: dict[str, Any]

    @property
    def tokens_key(self) -> str:
        """The reuse key of the tokens."""
        return key_of(self.tokens)

    @property
    def reuse_key(self) -> str:
        """The reuse key of the model, as it is asked for."""
        return key_of({**self.training, "tokens": self.tokens_key})

    @property
    def identity(self) -> dict[str, Any]:
        """All of it, for lineage and for `differences`."""
        return {**self.tokens, **self.training}


def request_of(dataset_digest: str, settings: dict[str, Any], contents: dict[str, str] | None = None) -> Request:
    """What the settings of a run ask for.

    Args:
        dataset_digest: of the corpus.
        settings: the settings of the run by section; numerics are asked for by those of `train`.
        contents: digests of what settings only point to, see `components.shared.reuse.external_inputs`.
    """
    tokens = {"dataset": dataset_digest, **made_by("tokens"), **_named("tokenize", settings["tokenize"])}
    training = {**made_by("weights"), **_named("train", deciding_weights(settings["train"]))}
    for name, digest in (contents or {}).items():
        part = tokens if name.startswith("content.tokenize.") else training
        part[name] = digest
    return Request(tokens, training)


def deciding_weights(train: dict[str, Any]) -> dict[str, Any]:
    """The settings of `train` that decide weights."""
    dropped = set(_UNSEEN_IN_WEIGHTS)
    counted = train.get("init") == "bigram" and not train.get("pretrained")
    if train.get("device") == "cuda" and not counted:
        dropped.add("threads")  # a GPU computes everything then; a start that is counted is factored on the CPU
    return {name: value for name, value in train.items() if name not in dropped}


def deciding_numerics(numerics: dict[str, Any]) -> dict[str, Any]:
    """The numerics that decide weights: where the processor does not, neither do its threads."""
    dropped = {"threads"} if numerics.get("processor", "") is None else set()
    return {name: value for name, value in numerics.items() if name not in dropped}


def refined(reuse_key: str, numerics: dict[str, Any]) -> str:
    """The reuse key of a model with the numerics that it was, or would be, trained with; equal keys, equal weights.

    Args:
        reuse_key: as it was asked for.
        numerics: see `components.train.device.numerics_of`.
    """
    return key_of({"reuse_key": reuse_key, **_named("numerics", deciding_numerics(numerics))})


def made_by(result: str) -> dict[str, str]:
    """Code and versions that decide a result, one of `SOURCES`."""
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
    """What differs between two sets of parts, a phrase each, in the order of the names."""
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
