"""Removes secrets from text before it reaches a log, a tag, a notification or a screen.

The parts that identify data are kept: the host, the path, and every part of a query that is not a credential.
"""

from __future__ import annotations

import os
import re
from typing import Any, Literal

HIDDEN = "[redacted]"
Secret = Literal["credential", "query", "webhook"]

_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>\\|]+", re.IGNORECASE)
# Keys of a query or a fragment whose value is a credential or part of a signature.
_SECRET_KEY = re.compile(
    r"(^|[._-])(x-amz-(signature|credential|security-token)|x-goog-(signature|credential)|sig|signature|sign|token"
    r"|access[_-]?token|auth|authorization|password|passwd|pwd|secret|client[_-]?secret|credentials?|api[_-]?key|apikey"
    r"|key|access[_-]?key|awsaccesskeyid|private[_-]?key|code|jwt)$",
    re.IGNORECASE,
)
# A key=value pair of a query that a library quotes without the address.
_PAIR = re.compile(r"(?<=[?&#;])([A-Za-z0-9._-]+)=([^\s&;#\"'<>|)]+)")
# Services for which the whole path is secret, and the usual webhook paths of self-hosted servers.
_WEBHOOK = re.compile(
    r"(hooks\.slack\.com|discord(app)?\.com/api/webhooks|.*\.webhook\.office\.com|.*\.logic\.azure\.com"
    r"|chat\.googleapis\.com|hooks\.zapier\.com|maker\.ifttt\.com|api\.telegram\.org|events\.pagerduty\.com)/."
    r"|[^/]+/(.*/)?(hooks|webhooks?|integrations?|incoming-webhook)/.",
    re.IGNORECASE,
)
_TOKEN = re.compile(
    r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\b(hf_|ghp_|gho_|ghs_|github_pat_|glpat-|xox[abp]-)[A-Za-z0-9_-]{16,}"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*"
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{8,}|(?<=[Bb]asic )[A-Za-z0-9+/=]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_SECRET_VARIABLE = re.compile(
    r"(SECRET|PASSWORD|PASSWD|TOKEN|WEBHOOK|COOKIES|CREDENTIALS|(API|ACCESS|PRIVATE)_KEY).*(?<!_PATH)(?<!_FILE)(?<!_DIR)$"
)
_SHORTEST = 6  # characters; a shorter value would also match parts of ordinary words


def redact(text: str) -> str:
    """The text without credentials: those in addresses, well-known tokens, and secret environment variables."""
    text = _URL.sub(lambda match: _redact_url(match[0]), text)  # first, so that the host of an address is kept
    text = _PAIR.sub(lambda match: _redact_pair(match[0]), text)
    for value in _secrets_of_environment():
        text = text.replace(value, HIDDEN)
    return _TOKEN.sub(HIDDEN, text)


def redact_values(value: Any) -> Any:
    """Redacts every text in a JSON value."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {key: redact_values(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_values(inner) for inner in value]
    return value


def find_secret(text: str) -> Secret | None:
    """The kind of credential that a text contains, judged by its form only; None if there is none."""
    for match in _URL.finditer(text):
        url = match[0]
        if _is_webhook(url):
            return "webhook"
        if (redacted := _redact_url(url)) != url:
            return "query" if _authority(redacted) == _authority(url) else "credential"
    return "credential" if _TOKEN.search(text) else None


def _authority(url: str) -> str:
    """User, password, host and port."""
    return re.split(r"[/?#]", url.partition("://")[2])[0]


def _is_webhook(url: str) -> bool:
    scheme, _, rest = url.partition("://")
    authority = _authority(url)
    host = re.sub(r":\d*$", "", authority.rpartition("@")[2])
    return scheme.lower() in ("http", "https") and bool(_WEBHOOK.match(host + rest[len(authority) :]))


def _redact_url(url: str) -> str:
    scheme, _, rest = url.partition("://")
    authority = _authority(url)
    _, at, host = authority.rpartition("@")
    if at:
        host = f"{HIDDEN}@{host}"
    if _is_webhook(url):
        return f"{scheme}://{host}/{HIDDEN}"
    path, marks, pairs = re.match(r"([^?#]*)([?#]?)(.*)", rest[len(authority) :], re.DOTALL).groups()  # type: ignore[union-attr]
    return f"{scheme}://{host}{path}{marks}{''.join(map(_redact_pair, re.split(r'([&;#?])', pairs)))}"


def _redact_pair(pair: str) -> str:
    key, equals, value = pair.partition("=")
    return f"{key}={HIDDEN}" if equals and value and _SECRET_KEY.search(key) else pair


def _secrets_of_environment() -> list[str]:
    """Values of variables with secret-like names, and passwords in addresses; the longest first."""
    found = set()
    for name, value in os.environ.items():
        if _SECRET_VARIABLE.search(name.upper()):
            found.add(value)
        if "@" in value and (password := re.match(r"[a-z][a-z0-9+.-]*://[^/?#:]*:([^/?#]+)@", value, re.IGNORECASE)):
            found.add(password[1])
    return sorted((value for value in found if len(value) >= _SHORTEST), key=len, reverse=True)
