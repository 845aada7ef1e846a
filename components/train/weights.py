"""Pretrained weights brought to a folder: from a folder, object storage or the Hub; safetensors, never code."""

from __future__ import annotations

from pathlib import Path

from components.shared.failure import ExitCode, Failure
from components.shared.manifest import digest_of, file_fact, write_atomically
from components.shared.pretrained import from_mirror
from components.shared.store import Store
from components.train.settings import TrainSettings

_FILES = ("*.json", "*.safetensors")


def bring_weights(settings: TrainSettings, work: Path, store: Store | None = None) -> Path | None:
    """The folder with the pretrained weights that the settings name, or None where they name none.

    Args:
        settings: `pretrained` and `revision`.
        work: a scratch folder for what is downloaded.
        store: asked before the Hub is.

    Raises:
        Failure: they cannot be had, or are no safetensors.
    """
    if settings.pretrained is None:
        return None
    if settings.pretrained.startswith("s3://"):
        folder = _from_s3(settings.pretrained, work)
    elif settings.from_hub:
        revision = settings.revision or ""
        mirrored = from_mirror(store, "weights", settings.pretrained, revision, work)
        folder = mirrored or _from_hub(settings.pretrained, revision)
    else:
        folder = Path(settings.pretrained).expanduser()
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise Failure(
            "There are no pretrained weights: config.json and model.safetensors are needed, other formats are refused",
            where=settings.pretrained,
            remedy="mend train.pretrained, or convert the weights by save_pretrained",
        )
    return folder


def digest_of_weights(folder: Path) -> str:
    """The digest of a folder with weights, by the names and bytes that loading reads."""
    files = sorted(path for pattern in _FILES for path in folder.glob(pattern) if path.name != "manifest.json")
    return digest_of({path.name: file_fact(path).sha256 for path in files})


def _from_s3(address: str, work: Path) -> Path:
    from components.shared.store_s3 import S3Objects

    objects = S3Objects(address)
    for key in [entry.key for entry in objects.entries("")]:
        if any(Path(key).match(pattern) for pattern in _FILES) and (data := objects.get(key)) is not None:
            write_atomically(work / Path(key).name, data)
    return work


def _from_hub(name: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(_FILES), etag_timeout=5))
    except Exception as error:
        raise Failure(
            f"The pretrained weights cannot be had from the Hub: {type(error).__name__}",
            where=f"https://huggingface.co/{name} at {revision}",
            remedy="look at the network and the name, bring it into the store by `wikigpt mirror`, or give a folder",
            exit_code=ExitCode.UNREACHABLE,
        ) from error
