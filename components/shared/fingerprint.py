"""The training fingerprint: everything that decides the weights, in one digest.

It keys tokens, checkpoints and models. Commit and image are not in it: an edit of the README must not throw a
checkpoint away.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

from components.shared.storage.manifest import digest_of

_ROOT = Path(__file__).parents[2]
# Code whose edit can change tokens or weights: the two steps without their skins, and of what they share that which
# cuts text; the rest of it only carries bytes about.
_SOURCES = ("components/tokenize", "components/train", "components/shared/articles.py")
_SKIN = "component.py"
_VERSIONS = ("torch", "transformers", "tokenizers")


def identity(dataset_digest: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What the fingerprint of a run is made of, as flat names to plain values.

    Args:
        dataset_digest: of the corpus, see `components.download`.
        settings: the settings of the run by step; numerics (device, precision, threads, compile) are among those of
            `train`.
    """
    parts: dict[str, Any] = {"dataset": dataset_digest, "source": source_digest()}
    # "+cpu" and the like name a build; the device, a setting, says what the numbers depend on.
    parts |= {f"version.{name}": version(name).partition("+")[0] for name in _VERSIONS}
    for step in ("tokenize", "train"):
        parts |= {f"{step}.{key}": value for key, value in settings[step].items()}
    return parts


def fingerprint(parts: dict[str, Any]) -> str:
    """The digest (hex, 32 characters) of an identity."""
    return digest_of(parts)[:32]


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """What differs between two identities, a phrase each, in the order of the names."""
    return [
        f"{name}: {theirs.get(name)!r} then, {ours.get(name)!r} now"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]


def source_digest(root: Path = _ROOT) -> str:
    """sha256 over the names and bytes of the source files that decide tokens and weights."""
    sha = hashlib.sha256()
    for source in _SOURCES:
        path = root / source
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            if file.name == _SKIN:
                continue
            sha.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return sha.hexdigest()
