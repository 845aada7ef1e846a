"""Addresses of corpora: what kind they are, and how they may be shown."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import urlsplit, urlunsplit


def is_archive(corpus: str) -> bool:
    """Whether the corpus is an archive behind a web address."""
    return corpus.startswith(("https://", "http://"))


def is_s3(corpus: str) -> bool:
    """Whether the corpus is a prefix of a bucket."""
    return corpus.startswith("s3://")


def shown(address: str) -> str:
    """An address without user, password and query, which may hold a token."""
    if "://" not in address:
        return address
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def name_from(address: str) -> str:
    """A name for models made of an address: its last part, in lower case, without endings of archives."""
    last = PurePosixPath(urlsplit(address).path if "://" in address else address).name
    stem = re.sub(r"\.(zip|tar\.gz|tgz)$", "", last.lower())
    return re.sub(r"[^a-z0-9._-]+", "-", stem).strip("-._") or "corpus"
