"""The manifest of a folder between two steps: `manifest.json` lists the other files and is written last.

A folder without a manifest counts as absent, so no later step reads the output of an interrupted step.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from components.shared.base.failure import Failure
from components.shared.storage.files import PARTIAL, FileFact, file_fact, write_atomically

MANIFEST = "manifest.json"
_METADATA = "facts"  # the key in the file, as in older stores


@dataclass(frozen=True)
class Manifest:
    """The content of a folder.

    Attributes:
        kind: corpus, tokens, checkpoint, model, evaluation, validation.
        files: size and digest by the name relative to the folder, with `/` between parts.
        metadata: the values that later steps read (JSON values).
    """

    kind: str
    files: dict[str, FileFact]
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """sha256 over the names and digests of the files; folders with equal files have equal digests."""
        return digest_of({name: fact.sha256 for name, fact in self.files.items()})

    def to_json(self) -> bytes:
        fields = asdict(self)
        fields[_METADATA] = fields.pop("metadata")
        return (json.dumps(fields, indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """The inverse of `to_json`.

        Raises:
            ValueError: the data is not a manifest, or names a file outside its folder.
        """
        try:
            fields = json.loads(data)
            files = {name: FileFact(**fact) for name, fact in fields["files"].items()}
            manifest = cls(kind=fields["kind"], files=files, metadata=fields[_METADATA])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a manifest, {type(error).__name__} {error}") from error
        for name in files:
            parts = PurePosixPath(name).parts
            if not parts or parts[0] == "/" or ".." in parts:
                raise ValueError(f"it names a file outside its folder, {name!r}")
        return manifest


def digest_of(value: Any) -> str:
    """sha256 (hex) of a JSON value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_manifest(folder: Path, kind: str, metadata: dict[str, Any] | None = None) -> Manifest:
    """Computes the digest of every file of a finished folder and then writes its manifest."""
    files = {
        path.relative_to(folder).as_posix(): file_fact(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST and not path.name.endswith(PARTIAL)
    }
    manifest = Manifest(kind=kind, files=files, metadata=metadata or {})
    write_atomically(folder / MANIFEST, manifest.to_json())
    return manifest


def read_manifest(folder: Path, kind: str) -> Manifest:
    """Reads the manifest of an input folder and checks every file against it.

    Raises:
        Failure: there is no manifest, its kind is another one, or a file is missing or differs.
    """
    remedy = "run again; the step before this one makes the folder again"
    try:
        manifest = Manifest.from_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise Failure(
            "The folder has no manifest, so it was never finished", where=str(folder), remedy=remedy
        ) from None
    except ValueError as error:
        raise Failure(f"The manifest cannot be read: {error}", where=str(folder / MANIFEST), remedy=remedy) from error
    if manifest.kind != kind:
        raise Failure(f"Expected a folder of kind {kind!r}, got {manifest.kind!r}", where=str(folder), remedy=remedy)
    for name, fact in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise Failure("A file that the manifest names is missing", where=str(path), remedy=remedy)
        if file_fact(path) != fact:
            raise Failure("A file differs from what the manifest says", where=str(path), remedy=remedy)
    return manifest
