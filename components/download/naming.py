"""The name of the models of a user's own text, and whether that name is already used for another text."""

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

# A name is a part of paths, with a few letters around it, and a file system takes 255 bytes for a part.
LONGEST, _MOST_BYTES = 61, 180
_DIGEST = 8  # hex digits
_ENDING = re.compile(r"\.(zip|tar\.gz|tgz)$")
_NO_NAME = "corpus"


def name_from(address: str) -> str:
    """A name for models made of the last part of an address, in lower case, without endings of archives.

    MLflow takes the letters of any script, so they stay, and a blank becomes a dash. Where something else is lost, a
    digest of the part says which one it was.
    """
    part = _ENDING.sub("", _in_lower_case(_last_part(address)))
    name = re.sub("\0+", "-", "".join(letter if _is_kept(letter) else "\0" for letter in part)).strip("-._")
    lost = any(not (_is_kept(letter) or letter.isspace()) for letter in part)
    if name and not lost and _fits(name):
        return name
    return with_digest(name, part or identity_of(address))


def with_digest(name: str, of: str) -> str:
    """The name, shortened if it is too long, followed by a digest of `of`."""
    name = (name or _NO_NAME)[: LONGEST - _DIGEST - 1]
    while len(name.encode()) > _MOST_BYTES - _DIGEST - 1:
        name = name[:-1]
    return f"{name.rstrip('-._')}-{digest_of(of)[:_DIGEST]}"


def is_name(text: str) -> bool:
    """Whether a text can name a corpus: letters of any script, none of them a capital, digits, dots, dashes."""
    return text == _in_lower_case(text) and text[:1].isalnum() and all(map(_is_kept, text)) and _fits(text)


def other_source_of_name(client: MlflowClient, model_name: str, address: str, dataset_digest: str) -> str | None:
    """The address of another text whose models already have this name; None if there is none.

    It is ours where a version was made of the same bytes or of a text from the same address, which may have changed
    since; or if no version has the tag of the address, which versions of earlier releases lack.

    Args:
        client: of the registry.
        model_name: that our models would have.
        address: of our text.
        dataset_digest: of our text.
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
    """The same letters in one form, whatever a file system makes of them."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())


def _is_kept(letter: str) -> bool:
    return letter in "-._" or unicodedata.category(letter)[0] in "LMN"


def _fits(name: str) -> bool:
    return len(name) <= LONGEST and len(name.encode()) <= _MOST_BYTES
