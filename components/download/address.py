"""Addresses of corpora: their kind, and the part that identifies the text."""

from __future__ import annotations

import re

from components.shared.base.redact import HIDDEN, redact

HUB = "hf://"
# Query parameters of a signature. They change with every signature and do not identify the text.
_SIGNING = re.compile(
    r"(x-amz-|x-goog-)|(expires|signature|key-pair-id|policy|awsaccesskeyid|googleaccessid|sig)=", re.IGNORECASE
)
# Azure's names are short, so they count as a signature only if `sig` is among them.
_AZURE = re.compile(r"(sv|ss|srt|sr|sp|st|se|spr|sip|skoid|sktid|skt|ske|sks|skv)=")


def is_archive(corpus: str) -> bool:
    """Whether the corpus is an archive behind a web address."""
    return corpus.startswith(("https://", "http://"))


def is_data_set(corpus: str) -> bool:
    """Whether the corpus is a data set on the Hugging Face Hub."""
    return corpus.startswith(HUB)


def data_set_of(corpus: str) -> tuple[str, str | None]:
    """Returns the repository of `hf://owner/name[@revision]`, and the revision if there is one."""
    repository, _, revision = corpus.removeprefix(HUB).partition("@")
    return repository, revision or None


def identity_of(address: str) -> str:
    """Returns the address without credentials and signature, so that every download of a text has the same address.

    The revision of a data set is removed, since the text at an address may change. Everything else is kept, including
    query and fragment. In `s3://` addresses `?` and `#` are characters of a key.
    """
    shown = redact(address)
    if is_data_set(shown):
        return HUB + data_set_of(shown)[0]
    if not is_archive(shown):
        return shown
    before, question, rest = shown.partition("?")
    query, hash_, fragment = rest.partition("#")
    pairs = query.split("&") if question else []
    azure = any(pair.startswith("sig=") for pair in pairs)
    kept = [pair for pair in pairs if not (_SIGNING.match(pair) or HIDDEN in pair or (azure and _AZURE.match(pair)))]
    return before + (f"?{'&'.join(kept)}" if kept else "") + hash_ + fragment
