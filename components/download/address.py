"""Addresses of corpora: what kind they are, and what they call a model."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit


def is_archive(corpus: str) -> bool:
    """Whether the corpus is an archive behind a web address."""
    return corpus.startswith(("https://", "http://"))


def name_from(address: str) -> str:
    """A name for models made of an address: its last part, in lower case, without endings of archives."""
    last = PurePosixPath(urlsplit(address).path if "://" in address else address).name
    stem = re.sub(r"\.(zip|tar\.gz|tgz)$", "", last.lower())
    return re.sub(r"[^a-z0-9._-]+", "-", stem).strip("-._") or "corpus"
