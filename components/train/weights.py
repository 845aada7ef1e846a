"""Pretrained weights brought to a folder, and what tells them from others."""

from __future__ import annotations

from pathlib import Path

from components.shared.base.failure import Failure
from components.shared.model.pretrained import fetch_pretrained, files_of
from components.shared.storage.files import file_fact
from components.shared.storage.manifest import digest_of
from components.shared.storage.store import Store
from components.train.settings import TrainSettings


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
    folder = fetch_pretrained("weights", settings.pretrained, settings.revision or "", work, store)
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise Failure(
            "There are no pretrained weights: config.json and model.safetensors are needed, other formats are refused",
            where=settings.pretrained,
            remedy="mend train.pretrained, or convert the weights by save_pretrained",
        )
    return folder


def digest_of_weights(folder: Path) -> str:
    """The digest of a folder with weights, by the names and bytes that loading reads."""
    return digest_of({path.name: file_fact(path).sha256 for path in files_of("weights", folder)})
