"""The `sample` corpus for machines without a network and for tests: invented articles in WikiText's format.

The compressed files are package data, made by `tests/sample_corpus/generator.py`.
"""

from __future__ import annotations

import lzma
from importlib.resources import files

from components.shared.text.articles import SPLIT_FILE

LICENCE = "Apache-2.0"
ATTRIBUTION = "Sample text made by Wiki-GPT's own generator; every name in it is invented"


def sample_corpus() -> dict[str, bytes]:
    """Returns the text of each split."""
    folder = files("components.download") / "sample_corpus"
    return {split: lzma.decompress((folder / f"{name}.xz").read_bytes()) for split, name in SPLIT_FILE.items()}
