"""Digests of inputs outside the settings: pretrained weights and tokenizers at an address.

A revision on the Hub cannot change. The content of a folder or a bucket prefix can change, so its digest is part of the
reuse key: without it, a model from old weights would be reused for new weights at the same address.
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
    """Digests of the inputs that settings point to, by setting name; a missing folder is left out.

    Args:
        settings: the settings of the whole run by section.
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
    """By size and modification time, because a digest of the content would need a download in every run."""
    return digest_of(sorted([entry.key, entry.size, entry.changed] for entry in S3Objects(address).entries("")))
