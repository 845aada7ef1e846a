"""Finds credentials among the parameters of a run, by the name of a setting or the form of a value."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from components.shared.base.redact import find_secret

CREDENTIAL = "a credential"
SIGNED = "an address with a secret in its query, as a presigned one has"
WEBHOOK = "the address of a webhook, to which everybody who knows it can post"
_WORDS = {"credential": CREDENTIAL, "query": SIGNED, "webhook": WEBHOOK}
_KEY = re.compile(
    r"(^|[._-])(password|passwd|secret|token|credentials?|apikey|(api|access|private|secret)[_-]?key)$", re.IGNORECASE
)


def is_secret_name(key: str) -> bool:
    """Whether the name of a setting is that of a credential. Settings of `cluster` hold names of Secrets instead."""
    return bool(_KEY.search(key)) and not key.startswith("cluster.")


def secret_in(value: str) -> str | None:
    """Describes, without the value, what in it looks like a credential; None if nothing does."""
    found = find_secret(value)
    return _WORDS[found] if found else None


def has_path_or_query(address: str) -> bool:
    """Whether an address has a path or a query, where services put a secret."""
    parts = urlsplit(address)
    return parts.path not in ("", "/") or bool(parts.query)
