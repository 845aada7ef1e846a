"""What looks like a credential among the parameters of a run: by the name of a setting, or by the form of a value."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from components.shared.redact import holds_secret

CREDENTIAL = "a credential"
SIGNED = "an address with a secret in its query, as a presigned one has"
WEBHOOK = "the address of a webhook, which lets whoever knows it post"
_KEY = re.compile(
    r"(^|[._-])(password|passwd|secret|token|credentials?|apikey|(api|access|private|secret)[_-]?key)$", re.IGNORECASE
)
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>]+", re.IGNORECASE)
_PORT = re.compile(r"^([a-z][a-z0-9+.-]*://[^/?#]*?):\d+(?=[/?#]|$)", re.IGNORECASE)
# Where servers of one's own (Mattermost, Rocket.Chat, GitLab) and many services have the secret of a webhook.
_HOOK = re.compile(r"https?://[^/]+/(.*/)?(hooks|webhooks?|integrations?|incoming-webhook)/.", re.IGNORECASE)


def is_called_a_secret(key: str) -> bool:
    """Whether a setting of this name holds a credential; those of `cluster` hold names of Secrets."""
    return bool(_KEY.search(key)) and not key.startswith("cluster.")


def secret_in(value: str) -> str | None:
    """What in a value looks like a credential, in words and without the value; None where nothing does."""
    for match in _ADDRESS.finditer(value):
        address = _PORT.sub(r"\1", match[0])
        path = re.split("[?#]", address)[0]
        if holds_secret(address) and not holds_secret(path):
            return SIGNED
        if _HOOK.match(path) or (holds_secret(path) and not _has_user(path) and not holds_secret(_after_scheme(path))):
            return WEBHOOK
    return CREDENTIAL if holds_secret(value) else None


def leads_somewhere(address: str) -> bool:
    """Whether an address has a path or a query, which is where a service puts its secret."""
    parts = urlsplit(address)
    return parts.path not in ("", "/") or bool(parts.query)


def _has_user(address: str) -> bool:
    return "@" in _after_scheme(address).partition("/")[0]


def _after_scheme(address: str) -> str:
    """An address without its scheme is no address any more: what is still a secret in it is a token."""
    return address.partition("://")[2]
