"""Pretrained tokenizers and weights: what settings point to, brought to a folder. Safetensors, and never code.

A revision of the Hugging Face Hub cannot change, so what was mirrored into the store under its name is what the Hub
would send: the store is asked first, and a cluster needs no Hub.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from components.shared.base.address import is_bucket, is_folder
from components.shared.base.failure import ExitCode, Failure
from components.shared.model.hub_errors import hub_failure
from components.shared.storage.manifest import MANIFEST
from components.shared.storage.s3 import S3Objects
from components.shared.storage.store import Store

KIND = "pretrained"
Part = Literal["tokenizer", "weights"]
# What belongs to a part, right below the folder, the prefix or the repository; what lies deeper is another model's.
FILES: dict[Part, tuple[str, ...]] = {
    "tokenizer": ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt"),
    "weights": ("*.json", "*.safetensors"),
}


def fetch_pretrained(part: Part, address: str, revision: str, work: Path, store: Store | None = None) -> Path:
    """The folder with a part; it may hold more than that, or nothing.

    Args:
        part: what is asked for.
        address: a folder, an `s3://` prefix, or a name on the Hub.
        revision: the commit on the Hub; not looked at otherwise.
        work: a scratch folder for what is downloaded.
        store: asked before the Hub is.

    Raises:
        Failure: the bucket or the Hub cannot be asked, or refuses.
    """
    if is_folder(address):
        return Path(address).expanduser()
    if is_bucket(address):
        return _from_bucket(part, address, work)
    if store and store.fetch(KIND, mirrored_name(part, address, revision), work):
        return work
    return from_hub(part, address, revision)


def files_of(part: Part, folder: Path) -> list[Path]:
    """The files of a part that are in a folder, by name."""
    found = {path for pattern in FILES[part] for path in folder.glob(pattern) if path.name != MANIFEST}
    return sorted(found)


def require_files(part: Part, folder: Path, setting: str) -> list[Path]:
    """The same, where there must be some.

    Raises:
        Failure: the folder that the setting names holds no such part.
    """
    found = files_of(part, folder)
    if not found or (part == "weights" and not any(path.suffix == ".safetensors" for path in found)):
        raise Failure(
            f"The folder holds no {part}: {', '.join(FILES[part])} are looked for",
            where=str(folder),
            remedy=f"mend {setting}",
            exit_code=ExitCode.USAGE,
        )
    return found


def mirrored_name(part: Part, repository: str, revision: str) -> str:
    """The name in the store of a part of a repository at a revision."""
    return f"{repository}@{revision}/{part}"


def from_hub(part: Part, name: str, revision: str, folder: Path | None = None) -> Path:
    """Downloads a part of a repository, to a folder or to the Hub's own cache.

    Raises:
        Failure: it cannot be had.
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
            f"The pretrained {part} cannot be had from the Hub",
            f"https://huggingface.co/{name} at {revision}",
            "bring it into the store by `wikigpt mirror` where the Hub can be reached, or give a folder",
        ) from error


def in_cache(part: Part, name: str, revision: str) -> bool:
    """Whether the Hub's own cache on this machine holds something of that revision, so that it need not be asked."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return bool(files_of(part, Path(snapshot_download(name, revision=revision, local_files_only=True))))
    except LocalEntryNotFoundError:
        return False


def _from_bucket(part: Part, address: str, work: Path) -> Path:
    from components.shared.storage.s3_files import download_file

    objects = S3Objects(address)
    for key in [entry.key for entry in objects.entries("")]:
        if "/" not in key and any(Path(key).match(pattern) for pattern in FILES[part]):
            download_file(objects, key, work / key)
    return work
