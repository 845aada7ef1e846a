"""Fetches pretrained weights to a folder, and computes their digest."""

from __future__ import annotations

from pathlib import Path

from components.shared.base.failure import Failure
from components.shared.model.pretrained import fetch_pretrained, files_of
from components.shared.storage.files import file_fact
from components.shared.storage.manifest import digest_of
from components.shared.storage.store import Store
from components.train.settings import TrainSettings


def fetch_weights(settings: TrainSettings, work: Path, store: Store | None = None) -> Path | None:
    """Fetches the pretrained weights that the settings name, and returns their folder; None if they name none.

    Args:
        settings: `pretrained` and `revision`.
        work: a scratch folder for downloads.
        store: the store, which is asked before the Hub.

    Raises:
        Failure: they cannot be fetched, or are not safetensors.
    """
    if settings.pretrained is None:
        return None
    folder = fetch_pretrained("weights", settings.pretrained, settings.revision or "", work, store)
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise Failure(
            "There are no pretrained weights: config.json and model.safetensors are needed, other formats are refused",
            where=settings.pretrained,
            remedy="fix train.pretrained, or convert the weights by save_pretrained",
        )
    return folder


def digest_of_pretrained(folder: Path) -> str:
    """The digest of a folder with weights: of the names and contents of the files that loading reads."""
    return digest_of({path.name: file_fact(path).sha256 for path in files_of("weights", folder)})
