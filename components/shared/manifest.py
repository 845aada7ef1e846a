"""A folder that a step hands on: its files, a `manifest.json` written last, and nothing else.

A folder without a manifest does not exist: whatever died while writing it left nothing that a later step would read.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any

from components.shared.failure import Failure
from components.shared.os_errors import os_failure

MANIFEST = "manifest.json"
# What ends in this is being written, by a process that may be dead: nobody reads it.
PARTIAL = ".part"


@dataclass(frozen=True)
class FileFact:
    """Size in bytes and sha256 (hex) of one file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What is in a folder and what made it.

    Attributes:
        kind: corpus, tokens, checkpoint, model, evaluation, validation.
        files: name relative to the folder, with `/` between parts, to its size and digest.
        facts: what the step found out that later steps need (JSON values).
    """

    kind: str
    files: dict[str, FileFact]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """sha256 over the names and digests of the files: equal folders have equal digests."""
        return digest_of({name: fact.sha256 for name, fact in self.files.items()})

    def to_json(self) -> bytes:
        return (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """The inverse of `to_json`.

        Raises:
            ValueError: it is no manifest, or names a file outside its folder.
        """
        try:
            fields = json.loads(data)
            files = {name: FileFact(**fact) for name, fact in fields["files"].items()}
            manifest = cls(kind=fields["kind"], files=files, facts=fields["facts"])
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


def file_fact(path: Path) -> FileFact:
    """Size and sha256 of a file, read in bounded memory."""
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return FileFact(size=stream.tell(), sha256=digest)


def write_atomically(
    path: Path, content: bytes | str | Callable[[IO[bytes]], object], *, if_absent: bool = False
) -> bool:
    """Writes a file so that its name holds either the old bytes or all of the new ones, whatever dies when.

    Args:
        path: the file; its folder is made.
        content: the bytes or text, or a function that writes to the open binary stream.
        if_absent: leave a file that stands there as it is; of several processes exactly one wins.

    Returns:
        Whether the file holds the new bytes.

    Raises:
        Failure: the disk is full, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent)
    except OSError as error:
        raise disk_failure(error, path) from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            if callable(content):
                content(stream)
            else:
                stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
            os.fchmod(stream.fileno(), 0o644)
        return place(temporary, path, if_absent=if_absent)
    except OSError as error:
        raise disk_failure(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def place(finished: Path, path: Path, *, if_absent: bool = False) -> bool:
    """Gives a finished file beside its target the target's name, for good: a crash of the machine does not undo it.

    Returns:
        False where `if_absent` is asked for and the name was taken.
    """
    if if_absent:
        try:
            path.hardlink_to(finished)
        except FileExistsError:
            return False
    else:
        finished.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True


def disk_failure(error: OSError, path: Path) -> Failure:
    """What a failed write means for a person."""
    return os_failure(error, path)


def write_manifest(folder: Path, kind: str, facts: dict[str, Any] | None = None) -> Manifest:
    """Digests every file of a finished folder and writes its manifest, last."""
    files = {
        path.relative_to(folder).as_posix(): file_fact(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST and not path.name.endswith(PARTIAL)
    }
    manifest = Manifest(kind=kind, files=files, facts=facts or {})
    write_atomically(folder / MANIFEST, manifest.to_json())
    return manifest


def read_manifest(folder: Path, kind: str) -> Manifest:
    """The manifest of a folder that a step was handed, after every file was compared with it.

    Raises:
        Failure: there is no manifest, it is of another kind, or a file is missing or differs.
    """
    remedy = "run again; the step before it makes the folder anew"
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
