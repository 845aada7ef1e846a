"""Fetches pretrained tokenizers and weights to a folder: safetensors and JSON files, never code.

A revision on the Hugging Face Hub cannot change, so the files that were mirrored into the store under its name equal
those on the Hub. The store is tried first, so that a cluster needs no access to the Hub.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from components.shared.base.address import is_bucket, is_folder, is_registered
from components.shared.base.failure import ExitCode, Failure
from components.shared.base.model_address import ModelAddress
from components.shared.model.hub_errors import hub_failure
from components.shared.model.registered_version import fetch_version
from components.shared.storage.manifest import MANIFEST
from components.shared.storage.s3 import S3Objects
from components.shared.storage.store import Store

KIND = "pretrained"
Part = Literal["tokenizer", "weights"]
# The files of a part, directly in the folder, the prefix or the repository; subfolders belong to other models.
FILES: dict[Part, tuple[str, ...]] = {
    "tokenizer": ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt"),
    "weights": ("*.json", "*.safetensors"),
}


def fetch_pretrained(part: Part, address: str, revision: str, work: Path, store: Store | None = None) -> Path:
    """Fetches a part and returns its folder, which may contain other files or lack those of the part.

    Args:
        part: the tokenizer or the weights.
        address: a folder, an `s3://` prefix, a pinned version of the registry, or a repository on the Hub.
        revision: the commit on the Hub; it is ignored for other addresses.
        work: a scratch folder for downloads.
        store: the store to try before the Hub.

    Raises:
        Failure: the bucket, MLflow or the Hub cannot be reached or refuses access; or the version is damaged.
    """
    if is_folder(address):
        return Path(address).expanduser()
    if is_bucket(address):
        return _from_bucket(part, address, work)
    if is_registered(address):
        fetch_version(ModelAddress.parse(address), work / "version", store)
        return work / "version"
    if store and store.fetch(KIND, mirrored_name(part, address, revision), work):
        return work
    return from_hub(part, address, revision)


def files_of(part: Part, folder: Path) -> list[Path]:
    """The files of a part in a folder, sorted by name."""
    found = {path for pattern in FILES[part] for path in folder.glob(pattern) if path.name != MANIFEST}
    return sorted(found)


def require_files(part: Part, folder: Path, setting: str) -> list[Path]:
    """The files of a part in a folder, which must contain some.

    Raises:
        Failure: the folder that the setting names does not contain the part.
    """
    found = files_of(part, folder)
    needed = ("*.safetensors",) if part == "weights" else FILES[part]
    if not any(path.match(pattern) for path in found for pattern in needed):
        raise Failure(
            f"The folder contains no {part}: none of its files matches {', '.join(needed)}",
            where=str(folder),
            remedy=f"fix {setting}",
            exit_code=ExitCode.USAGE,
        )
    return found


def mirrored_name(part: Part, repository: str, revision: str) -> str:
    """The name under which the store keeps a part of a repository at a revision."""
    return f"{repository}@{revision}/{part}"


def from_hub(part: Part, name: str, revision: str, folder: Path | None = None) -> Path:
    """Downloads a part of a repository to a folder or to the Hub's cache.

    Raises:
        Failure: the download failed.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=list(FILES[part]),
                ignore_patterns=["*/*"],
                local_dir=folder,
                etag_timeout=5,
            )
        )
    except Exception as error:
        raise hub_failure(
            error,
            f"The pretrained {part} cannot be downloaded from the Hub",
            f"https://huggingface.co/{name} at {revision}",
            "run `wikigpt mirror` on a machine that reaches the Hub, or give a folder",
        ) from error


def cached_folder(part: Part, name: str, revision: str) -> Path | None:
    """The folder of the Hub's cache on this machine with files of the part at that revision, or None."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    return folder if files_of(part, folder) else None


def _from_bucket(part: Part, address: str, work: Path) -> Path:
    from components.shared.storage.s3_files import download_file

    objects = S3Objects(address)
    for key in [entry.key for entry in objects.entries("")]:
        if "/" not in key and any(Path(key).match(pattern) for pattern in FILES[part]):
            download_file(objects, key, work / key)
    return work
