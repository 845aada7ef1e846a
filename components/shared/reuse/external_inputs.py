"""Digests of external inputs that the settings only name: pretrained weights and tokenizers.

A revision of the Hub cannot change. A folder or a prefix of a bucket can, so what is in it belongs to the reuse key;
else the model that old weights made would be taken for that of new ones at the same address.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.shared.base.address import is_bucket, is_folder
from components.shared.storage.files import file_fact
from components.shared.storage.manifest import digest_of
from components.shared.storage.s3 import S3Objects

_POINTERS = (("tokenize", "tokenizer"), ("train", "pretrained"))


def external_input_digests(settings: dict[str, Any]) -> dict[str, str]:
    """Digests of what settings point to, by the name of the setting; what is missing is left to the step that needs it.

    Args:
        settings: of the whole run, by section.
    """
    found = {}
    for section, key in _POINTERS:
        address = settings[section].get(key) or ""
        if is_bucket(address):
            found[f"content.{section}.{key}"] = _of_prefix(address)
        elif is_folder(address) and Path(address).expanduser().is_dir():
            found[f"content.{section}.{key}"] = _of_folder(Path(address).expanduser())
    return found


def _of_folder(folder: Path) -> str:
    return digest_of({path.name: file_fact(path).sha256 for path in sorted(folder.iterdir()) if path.is_file()})


def _of_prefix(address: str) -> str:
    """By size and time of change: reading the weights would cost a download in every run."""
    return digest_of(sorted([entry.key, entry.size, entry.changed] for entry in S3Objects(address).entries("")))
