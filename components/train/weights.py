"""Fetches pretrained weights to a folder, and identifies them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from components.shared.base.address import is_registered
from components.shared.base.failure import ExitCode, Failure
from components.shared.base.model_address import ModelAddress
from components.shared.model.pretrained import fetch_pretrained, files_of
from components.shared.model.reach import REACH_OF_START, trained_reach
from components.shared.model.registered_version import fetch_version
from components.shared.storage.files import file_fact
from components.shared.storage.manifest import MANIFEST, Manifest, digest_of
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


def start_parts(settings: TrainSettings, folder: Path, tokenizer_digest: str) -> dict[str, Any]:
    """The parts of the identity of a training that its first weights determine.

    Args:
        settings: `pretrained`.
        folder: the folder that `fetch_weights` returned.
        tokenizer_digest: the digest of the tokenizer that made the tokens.

    Raises:
        Failure: the weights are those of a registered version that has another tokenizer.
    """
    if not is_registered(settings.pretrained or ""):
        return {"pretrained": digest_of_pretrained(folder)}
    address = ModelAddress.parse(settings.pretrained or "")
    version = Manifest.from_json((folder / MANIFEST).read_bytes()).metadata
    _require_tokenizer(address, version, tokenizer_digest, "train.pretrained")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    context = config.get("max_position_embeddings") or config["n_positions"]
    return {"pretrained": address.digest, REACH_OF_START: trained_reach(context, version["identity"])}


def fetch_teachers(settings: TrainSettings, work: Path, store: Store | None, tokenizer_digest: str) -> list[Path]:
    """Fetches the models that `distill` names, and returns their folders.

    Args:
        settings: `distill`, with pinned addresses.
        work: a scratch folder for downloads.
        store: the store, which is asked before MLflow.
        tokenizer_digest: the digest of the tokenizer that made the tokens.

    Raises:
        Failure: a version cannot be fetched, or has another tokenizer.
    """
    folders = []
    for number, text in enumerate(settings.distill, start=1):
        address, folder = ModelAddress.parse(text), work / str(number)
        _require_tokenizer(address, fetch_version(address, folder, store), tokenizer_digest, "train.distill")
        folders.append(folder)
    return folders


def _require_tokenizer(address: ModelAddress, metadata: dict[str, Any], tokenizer_digest: str, setting: str) -> None:
    if metadata["tokenizer_digest"] != tokenizer_digest:
        raise Failure(
            f"The tokens were made by another tokenizer than that of {address.label}",
            where=setting,
            remedy="take the tokenizer of that model, by tokenize.tokenizer",
            exit_code=ExitCode.USAGE,
        )


def digest_of_pretrained(folder: Path) -> str:
    """The digest of a folder with weights: of the names and contents of the files that loading reads."""
    return digest_of({path.name: file_fact(path).sha256 for path in files_of("weights", folder)})
