"""The folder of a version that an engine serves: exported once, below the home, verified at each rollout.

serving/versions/<digest>/wikigpt/     the Hugging Face folder, with its manifest
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.base.failure import Failure
from components.shared.reuse.trained import KIND, weights_digest
from components.shared.storage.files import PARTIAL, disk_failure
from components.shared.storage.manifest import MANIFEST, digest_of, read_manifest, write_manifest
from components.shared.tracking import registry
from pipelines.registry.export import export
from pipelines.registry.verification import require_verified
from pipelines.serving.completions import NAME

if TYPE_CHECKING:
    from components.shared.tracking.sqlite_registry import AnyVersion, RegistryReader


def served_folder(client: RegistryReader, version: AnyVersion, root: Path) -> Path:
    """The folder of a version, named by the digests of its weights and tokenizer; exported if it is not there.

    Args:
        client: a client of the registry, or the database.
        version: the version.
        root: the folder of all exported versions.

    Raises:
        Failure: the version has no model or no recorded digest, its weights are not those that were registered, it does
            not verify by the configured public key, or the disk is full.
    """
    recorded = version.tags.get(registry.WEIGHTS_DIGEST)
    address = f"models:/{version.name}/{version.version}"
    if not recorded:
        raise Failure(
            f"The version has no tag {registry.WEIGHTS_DIGEST}, so that its weights cannot be verified",
            where=address,
            remedy="serve a version that a run has registered",
        )
    tokenizer = version.tags.get(registry.TOKENIZER_DIGEST, "")
    folder = root / digest_of({"weights": recorded, "tokenizer": tokenizer})[:32] / NAME
    if not _is_intact(client, version, folder, recorded):
        _export(client, version, folder, recorded, address)  # which verifies it
    return folder


def _is_intact(client: RegistryReader, version: AnyVersion, folder: Path, recorded: str) -> bool:
    """Whether the folder itself has exactly the files that were exported, and they verify by the configured key.

    Its manifest is not signed, so who can change a file of the folder can change the manifest too.
    """
    try:
        manifest = read_manifest(folder, KIND)
        present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
        if present != {MANIFEST, *manifest.files} or weights_digest(manifest) != recorded:
            return False
        require_verified(client, version, folder)
    except Failure:
        return False
    return True


def _export(client: RegistryReader, version: AnyVersion, folder: Path, recorded: str, address: str) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{NAME}.", suffix=PARTIAL, dir=folder.parent) as scratch:
            made = export(client, version, Path(scratch) / NAME)
            digest = weights_digest(write_manifest(made, KIND))
            if digest != recorded:
                raise Failure(
                    f"The weights of the version in MLflow are damaged: their digest is {digest[:12]}…, and"
                    f" {recorded[:12]}… was registered",
                    where=address,
                    remedy="restore the artifacts of MLflow from a backup, or use another version",
                )
            if folder.exists():  # damaged; a server that still reads it keeps its open files
                folder.replace(Path(scratch) / "damaged")
            with suppress(FileExistsError):  # another command exported the same
                made.replace(folder)
    except OSError as error:
        raise disk_failure(error, folder) from error
    finally:
        if not folder.exists():
            shutil.rmtree(folder.parent, ignore_errors=True)
