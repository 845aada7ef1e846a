"""Classifies an address in the settings: a folder of this machine, a bucket, a registered version, or a repository."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from components.shared.base.ranges import safe_repr

# The value of `tokenize.tokenizer` that is no address: the run trains a tokenizer on its corpus.
OWN_TOKENIZER = "bpe"

# A folder needs one of these prefixes, so that `gpt2` means the Hub even where a folder has that name.
_FOLDER = ("/", "./", "../", "~")


def is_folder(address: str) -> bool:
    """Whether the address is a folder: it begins with `/`, `./`, `../` or `~`."""
    return address.startswith(_FOLDER)


def is_bucket(address: str) -> bool:
    """Whether the address is an S3 bucket or a prefix in one."""
    return address.startswith("s3://")


def is_registered(address: str) -> bool:
    """Whether the address is a registered version, see `components.shared.base.model_address`."""
    return address.startswith("models:/")


def names_bucket(address: str) -> bool:
    """Whether an `s3://` address begins with a valid name of a bucket."""
    return bool(re.fullmatch(r"[A-Za-z0-9._-]{1,255}", address.removeprefix("s3://").partition("/")[0]))


def require_bucket_name(setting: str, address: str) -> None:
    """Checks that an `s3://` address names what can be a bucket. Every other address passes.

    Raises:
        ValueError: it does not; the message begins with the setting.
    """
    if is_bucket(address) and not names_bucket(address):
        raise ValueError(f"{setting} must name a bucket after s3://, got {safe_repr(address)}")


def is_on_hub(address: str) -> bool:
    """Whether the address is a repository of the Hugging Face Hub."""
    return not is_folder(address) and not is_bucket(address) and not is_registered(address)


def is_web_address(address: str) -> bool:
    """Whether a text is an http:// or https:// address with a host and, if it names a port, a valid one."""
    scheme, _, rest = address.partition("://")
    if scheme not in ("http", "https") or re.search(r"[\s\x00-\x1f\x7f]", address):
        return False
    host = re.split(r"[/?#]", rest)[0].rpartition("@")[2]
    try:
        parts = urlsplit(f"{scheme}://{host}")
        return _is_host(parts.hostname or "") and parts.port != 0
    except ValueError:
        return False


def _is_host(name: str) -> bool:
    """Whether a name can be looked up; urllib3 raises its own error for one that cannot.

    Raises:
        ValueError: a part of the name is empty or too long.
    """
    if ":" in name:  # an IPv6 address
        return True
    return bool(re.fullmatch(r"[A-Za-z0-9_.-]+", name.encode("idna").decode()))


def is_repository(name: str) -> bool:
    """Whether a text is a valid name of a repository on the Hub: NAME or OWNER/NAME."""
    parts = name.split("/")
    plain = all(re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?", part) for part in parts)
    return plain and len(parts) <= 2 and not re.search(r"--|\.\.|\.git$", name)
