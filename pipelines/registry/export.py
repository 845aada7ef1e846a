"""Exports a version as a Hugging Face folder, which transformers, vLLM and llama.cpp's converter can load."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.base.failure import ExitCode, Failure
from components.shared.model.registered_model import download_version
from components.shared.signing.bundle import MODEL, PROVENANCE
from components.shared.signing.evidence import fetch_signature
from components.shared.storage.files import PARTIAL, disk_failure
from components.shared.tracking import registry
from pipelines.config.paths import absolute
from pipelines.registry.front_matter import front_matter
from pipelines.registry.verification import require_verified

if TYPE_CHECKING:
    from components.shared.tracking.sqlite_registry import AnyVersion, RegistryReader

_SCRATCH = ".wikigpt-export."


def export(client: RegistryReader, version: AnyVersion, folder: Path) -> Path:
    """Writes the weights, configuration and tokenizer of a version, its card as README.md, and the files of its
    signature if it is signed; all or nothing.

    A folder that exists is filled and not replaced: it may be a mount point, or the working folder of a shell.

    Args:
        client: a client of the registry, or the database.
        version: the version, see `resolve`.
        folder: the output folder, which must not exist or must be empty.

    Raises:
        Failure: the folder is not empty, the version has no model or tokenizer, it does not verify by the configured
            public key, or the disk is full.
    """
    folder = absolute(folder, "FOLDER")
    try:
        if folder.exists():
            _require_empty(folder)
            with tempfile.TemporaryDirectory(prefix=_SCRATCH, suffix=PARTIAL, dir=folder) as scratch:
                _move_into(_write(client, version, Path(scratch) / "plain"), folder)
        else:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=_SCRATCH, suffix=PARTIAL, dir=folder.parent) as scratch:
                _write(client, version, Path(scratch) / "plain").replace(folder)
    except OSError as error:
        raise disk_failure(error, folder) from error
    return folder


def _require_empty(folder: Path) -> None:
    """Ignores `lost+found`, which a new file system has, and removes what a killed export left."""
    if not folder.is_dir():
        raise Failure("This is a file", where=str(folder), remedy="name a new folder", exit_code=ExitCode.USAGE)
    for path in folder.iterdir():
        if path.name.startswith(_SCRATCH) and path.name.endswith(PARTIAL):
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != "lost+found":
            raise Failure(
                "The folder is not empty", where=str(folder), remedy="name a new one", exit_code=ExitCode.USAGE
            )


def _write(client: RegistryReader, version: AnyVersion, plain: Path) -> Path:
    download_version(client, version, plain)
    require_verified(client, version, plain)
    if registry.SIGNATURE in version.tags:
        signature = fetch_signature(client, version, plain.with_name("signature"))
        for name in (MODEL, PROVENANCE):  # no other file of that folder, which is beside the signed ones
            shutil.copyfile(signature / name, plain / name)
    card = version.description or f"# {version.name} version {version.version}\n"
    (plain / "README.md").write_text(front_matter(version) + card, encoding="utf-8")
    for path in (each for each in plain.rglob("*") if each.is_file()):
        path.chmod(0o644)  # weights are readable by their owner alone, and a server runs as another user
    return plain


def _move_into(plain: Path, folder: Path) -> None:
    """Moves the files of one folder into another on the same disk. If one cannot be moved, the others are removed."""
    moved: list[Path] = []
    try:
        # config.json is moved last: without it, nothing takes the folder of a killed export for a model.
        for path in sorted(plain.iterdir(), key=lambda path: path.name == "config.json"):
            moved.append(folder / path.name)
            path.replace(moved[-1])
    except BaseException:
        for path in moved:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        raise
