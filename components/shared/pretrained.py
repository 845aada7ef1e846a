"""What was mirrored from the Hugging Face Hub: the store is asked before the Hub is, so that a cluster needs none.

A revision of the Hub cannot change, so what stands under its name is what the Hub would send.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from components.shared.store import Store

KIND = "pretrained"
Part = Literal["tokenizer", "weights"]
# What of a repository belongs to a part: safetensors and no code.
FILES: dict[Part, tuple[str, ...]] = {
    "tokenizer": ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt"),
    "weights": ("*.json", "*.safetensors"),
}


def mirrored_name(part: Part, repository: str, revision: str) -> str:
    """The name in the store of a part of a repository at a revision."""
    return f"{repository}@{revision}/{part}"


def from_mirror(store: Store | None, part: Part, repository: str, revision: str, folder: Path) -> Path | None:
    """Brings a part of a repository from the store to a folder, or None where it was not mirrored."""
    if store and store.fetch(KIND, mirrored_name(part, repository, revision), folder):
        return folder
    return None
