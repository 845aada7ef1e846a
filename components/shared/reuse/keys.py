"""Reuse keys: digests of everything that determines a result, by which an earlier equal result is found.

A model has two keys. The model key is known before the training; it does not contain the numerics, which are known only
on the training machine. The model key with numerics determines the weights. Neither identifies a model, because a
repeated training may end in other weights: only the digest of the weights does. docs/reuse.md explains what each key
contains, and why.
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

# The code that determines each result: the package of a step without its EXCLUDED_MODULES, and some shared modules.
# Excluded modules only start, report, check or transfer. The values of the settings are in the keys themselves.
SOURCES: dict[str, tuple[str, ...]] = {
    "tokens": ("components/tokenize", "components/shared/text/articles.py"),
    "weights": ("components/train", "components/shared/model/hardware.py", "components/shared/model/head.py"),
    "evaluation": (
        "components/evaluate",
        "components/shared/text/articles.py",
        "components/shared/model/hardware.py",
        "components/shared/model/head.py",
        "components/shared/model/reach.py",
        "components/shared/text/units.py",
    ),
    "validation": (
        "components/validate",
        "components/shared/text/articles.py",
        "components/shared/report/report.py",
        "components/shared/text/units.py",
    ),
}
EXCLUDED_MODULES: dict[str, frozenset[str]] = {
    "tokens": frozenset({"component", "settings"}),
    "weights": frozenset(
        {
            "checkpoint_manager",
            "compile_cache",
            "component",
            "hosts",
            "metrics",
            "reporter",
            "run",
            "settings",
            "time_left",
        }
    ),
    "evaluation": frozenset({"adapted_section", "champion", "component", "pictures", "report", "settings"}),
    "validation": frozenset({"component", "settings"}),
}

# Settings that affect only logging.
_EXCLUDED_SETTINGS = frozenset({"log_every"})
# The local version, such as +cpu, is part of the numerics instead.
_VERSIONS: dict[str, tuple[str, ...]] = {
    "tokens": ("tokenizers", "transformers"),
    "weights": ("torch", "transformers", "tokenizers", "peft", "numpy"),
    "evaluation": ("torch", "transformers", "tokenizers", "sacrebleu"),
    "validation": ("great_expectations", "matplotlib"),
}


@dataclass(frozen=True)
class Request:
    """The training that a run requests: the parts of its keys, as plain values by flat names.

    Attributes:
        tokens: the parts that determine the tokens.
        training: the other parts that determine the weights, without the numerics.
    """

    tokens: dict[str, Any]
    training: dict[str, Any]

    @property
    def tokens_key(self) -> str:
        """The reuse key of the tokens."""
        return key_of(self.tokens)

    @property
    def model_key(self) -> str:
        """The model key: the reuse key of the model without its numerics."""
        return key_of({**self.training, "tokens": self.tokens_key})

    @property
    def key_parts(self) -> dict[str, Any]:
        """All parts, for lineage and for `differences`."""
        return {**self.tokens, **self.training}


def request_of(dataset_digest: str, settings: dict[str, Any], contents: dict[str, str] | None = None) -> Request:
    """The training that the settings of a run request.

    Args:
        dataset_digest: the digest of the corpus.
        settings: the settings of the run by section; those of `train` include the requested numerics.
        contents: digests of the inputs that settings point to, see `components.shared.reuse.external_inputs`.
    """
    tokens, training = tokens_parts(dataset_digest, settings["tokenize"]), training_parts(settings["train"])
    for name, digest in (contents or {}).items():
        part = tokens if name.startswith("content.tokenize.") else training
        part[name] = digest
    return Request(tokens, training)


def tokens_parts(dataset_digest: str, tokenize: dict[str, Any]) -> dict[str, Any]:
    """The parts of the reuse keys that determine the tokens, from the settings of `tokenize`."""
    return {"dataset": dataset_digest, **code_and_releases("tokens"), **_named("tokenize", tokenize)}


def training_parts(train: dict[str, Any]) -> dict[str, Any]:
    """The other parts that determine the weights, without the numerics, from the settings of `train`."""
    return {**code_and_releases("weights"), **_named("train", deciding_weights(train))}


def deciding_weights(train: dict[str, Any]) -> dict[str, Any]:
    """The settings of `train` that determine the weights."""
    dropped = set(_EXCLUDED_SETTINGS)
    on_cpu = train.get("init") == "bigram" and not train.get("pretrained")
    if train.get("device") == "cuda" and not on_cpu:
        dropped.add("threads")  # the GPU computes everything; the bigram initialization runs on the CPU
    return {name: value for name, value in train.items() if name not in dropped}


def deciding_numerics(numerics: dict[str, Any]) -> dict[str, Any]:
    """The numerics that determine the weights. If a GPU computes everything, the number of threads is left out."""
    dropped = {"threads"} if numerics.get("processor", "") is None else set()
    return {name: value for name, value in numerics.items() if name not in dropped}


def with_numerics(model_key: str, numerics: dict[str, Any]) -> str:
    """The model key with numerics: models with equal ones have equal weights.

    Args:
        model_key: the model key.
        numerics: see `components.train.device.numerics_of`.
    """
    return key_of({"reuse_key": model_key, **_named("numerics", deciding_numerics(numerics))})


def code_and_releases(result: str) -> dict[str, str]:
    """The parts of a key for a result, one of `SOURCES`: the digest of its code, and the releases of its packages."""
    return {f"code.{result}": code_digest(result), **{f"version.{name}": _version(name) for name in _VERSIONS[result]}}


def code_digest(result: str, root: Path = ROOT) -> str:
    """The digest of the code that determines a result, one of `SOURCES`."""
    step, *shared = SOURCES[result]
    files = [path for path in sorted((root / step).rglob("*.py")) if path.stem not in EXCLUDED_MODULES[result]]
    return code_of(*files, *shared, root=root)


def key_of(parts: dict[str, Any]) -> str:
    """The digest (hex, 32 characters) of the parts of a key."""
    return digest_of(parts)[:_LENGTH]


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """One phrase per difference between the parts of two keys, sorted by name."""
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
