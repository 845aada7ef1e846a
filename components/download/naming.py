"""Derives the name of the models of a user's own text, and checks whether it is used for another text."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from components.download.address import data_set_of, identity_of, is_archive, is_data_set
from components.shared.base.address import is_bucket
from components.shared.storage.manifest import digest_of
from components.shared.tracking import registry

if TYPE_CHECKING:
    from mlflow import MlflowClient

# A name is part of file names, which file systems limit to 255 bytes.
LONGEST, _MOST_BYTES = 61, 180
_DIGEST = 8  # hex digits
_ENDING = re.compile(r"\.(zip|tar\.gz|tgz)$")
_NO_NAME = "corpus"


def name_from(address: str) -> str:
    """Derives a name from the last part of an address, in lower case and without endings of archives.

    MLflow accepts the letters of any script, so they are kept, and spaces become dashes. If other characters are lost,
    a digest of the part makes the name unique.
    """
    part = _ENDING.sub("", _in_lower_case(_last_part(address)))
    name = re.sub("\0+", "-", "".join(letter if _is_kept(letter) else "\0" for letter in part)).strip("-._")
    lost = any(not (_is_kept(letter) or letter.isspace()) for letter in part)
    if name and not lost and _fits(name):
        return name
    return with_digest(name, part or identity_of(address))


def with_digest(name: str, of: str) -> str:
    """Appends a digest of `of` to a name, which is shortened if it is too long."""
    name = (name or _NO_NAME)[: LONGEST - _DIGEST - 1]
    while len(name.encode()) > _MOST_BYTES - _DIGEST - 1:
        name = name[:-1]
    return f"{name.rstrip('-._')}-{digest_of(of)[:_DIGEST]}"


def is_name(text: str) -> bool:
    """Whether a text can name a corpus: it has only lower case letters of any script, digits, dots and dashes."""
    return text == _in_lower_case(text) and text[:1].isalnum() and all(map(_is_kept, text)) and _fits(text)


def other_source_of_name(client: MlflowClient, model_name: str, address: str, dataset_digest: str) -> str | None:
    """Returns the address of another text whose models already have this name, or None.

    The text is the same if a version was trained on the same bytes or on a text from the same address, which may have
    changed since. Versions of earlier releases have no tag for the address and count as the same text.

    Args:
        client: a client of the registry.
        model_name: the name for the models of this text.
        address: the address of this text.
        dataset_digest: the digest of this text.
    """
    theirs = None
    for version in registry.versions(client, model_name):
        source = version.tags.get(registry.CORPUS_SOURCE)
        same = source is None or identity_of(source) == identity_of(address)
        if same or version.tags.get(registry.DATASET_DIGEST) == dataset_digest:
            return None
        theirs = theirs or source
    return theirs


def _last_part(address: str) -> str:
    if is_data_set(address):
        address = data_set_of(address)[0]
    if is_archive(address):
        return unquote(PurePosixPath(urlsplit(address).path).name)
    return PurePosixPath(address.removeprefix("s3://") if is_bucket(address) else address).name


def _in_lower_case(text: str) -> str:
    """Normalizes letters to lower case and one Unicode form, since file systems use different forms."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())


def _is_kept(letter: str) -> bool:
    return letter in "-._" or unicodedata.category(letter)[0] in "LMN"


def _fits(name: str) -> bool:
    return len(name) <= LONGEST and len(name.encode()) <= _MOST_BYTES
