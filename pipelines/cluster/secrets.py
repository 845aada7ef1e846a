"""What looks like a credential: keys of settings, tokens of known services, and secrets inside addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

_NAMES = r"password|passwd|secret|token|credentials?|apikey|(api|access|private|secret)[_-]?key"
_KEY = re.compile(rf"(^|[._-])({_NAMES})$", re.IGNORECASE)
_TOKEN = re.compile(
    r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\b(hf_|gh[opsu]_|github_pat_|glpat-|xox[abprs]-|sk-)[A-Za-z0-9_-]{16,}"
    r"|\bAIza[A-Za-z0-9_-]{35}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\."
)
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>]+", re.IGNORECASE)
# Parameters of a query that are a secret: those of presigned addresses (S3, Google, Azure, CloudFront) and of APIs.
_PARAMETER = re.compile(
    rf"({_NAMES}|signature|sig|key|auth|authorization|jwt|session|hmac|awsaccesskeyid|key-pair-id)$", re.IGNORECASE
)
# Addresses to which a service lets whoever knows them post: the secret is in the path. Host, then path.
_WEBHOOKS = tuple(
    (re.compile(host), re.compile(path))
    for host, path in (
        (r"hooks\.slack(-gov)?\.com", r"/(services|workflows|triggers)/"),
        (r"(.*\.)?discord(app)?\.com", r"/api/webhooks/"),
        (r".*\.webhook\.office\.com|outlook\.office(365)?\.com", r"/webhook"),
        (r".*\.logic\.azure\.com|.*\.api\.powerplatform\.com", r"/"),
        (r"hooks\.zapier\.com|hook\..*make\.com", r"/"),
        (r"maker\.ifttt\.com", r"/.*/key/"),
        (r"api\.telegram\.org", r"/bot"),
        (r"events\.pagerduty\.com|.*\.opsgenie\.com|.*\.pushover\.net", r"/integration/"),
        (r".*", r"/(hooks|webhooks?|incoming-webhook)/."),  # Mattermost, Rocket.Chat, GitLab and the like
    )
)


def is_called_a_secret(key: str) -> bool:
    """Whether a setting of this name holds a credential; those of `cluster` hold names of Secrets."""
    return bool(_KEY.search(key)) and not key.startswith("cluster.")


def secret_in(value: str) -> str | None:
    """What in a value looks like a credential, in words and without the value; None where nothing does."""
    if _TOKEN.search(value):
        return "a credential"
    return next(filter(None, map(_secret_in_address, _addresses(value))), None)


def leads_somewhere(address: str) -> bool:
    """Whether an address has a path or a query, which is where a service puts its secret."""
    parts = urlsplit(address)
    return parts.path not in ("", "/") or bool(parts.query)


def _addresses(value: str) -> Iterator[str]:
    for match in _ADDRESS.finditer(value):
        yield match[0]


def _secret_in_address(address: str) -> str | None:
    try:
        parts = urlsplit(address)
        password, host = parts.password, (parts.hostname or "").lower()
    except ValueError:
        return None
    if password:
        return "a credential"
    parameters = [*parse_qsl(parts.query), *parse_qsl(parts.fragment)]
    if any(_PARAMETER.search(name) for name, value in parameters if value):
        return "an address with a secret in its query, as a presigned one has"
    if parts.scheme.lower() in ("http", "https") and any(
        known.fullmatch(host) and path.match(parts.path) for known, path in _WEBHOOKS
    ):
        return "the address of a webhook, which lets whoever knows it post"
    return None
