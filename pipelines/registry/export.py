"""A version as a plain Hugging Face folder, which transformers, vLLM and llama.cpp's converter read."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.failure import ExitCode, Failure
from components.shared.registered_model import plain_folder
from components.shared.storage.files import disk_failure

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def export(client: MlflowClient, version: ModelVersion, folder: Path) -> Path:
    """Writes the weights, configuration and tokenizer of a version, and its card as README.md, all or nothing.

    Args:
        client: of the registry.
        version: see `resolve`.
        folder: the new folder; it must not exist, or be empty.

    Raises:
        Failure: the folder holds something, the version has no model or tokenizer, or the disk is full.
    """
    folder = folder.expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Failure("The folder is not empty", where=str(folder), remedy="name a new one", exit_code=ExitCode.USAGE)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent) as scratch:
            plain = Path(scratch) / "plain"
            plain_folder(client, version, plain)
            (plain / "README.md").write_text(version.description or f"# {version.name} version {version.version}\n")
            for path in (each for each in plain.rglob("*") if each.is_file()):
                path.chmod(0o644)  # weights are written for their owner alone, and a server is another user
            plain.replace(folder)
    except OSError as error:
        raise disk_failure(error, folder) from error
    return folder
