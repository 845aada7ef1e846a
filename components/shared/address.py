"""What a string in the settings points to: a folder of this machine, a prefix of a bucket, or a name on the Hub."""

from __future__ import annotations

# Without one of these `gpt2` would mean another thing where somebody has a folder of that name.
_FOLDER = ("/", "./", "../", "~")


def is_folder(address: str) -> bool:
    """Whether pretrained weights or a tokenizer are named by a folder: it begins with `/`, `./`, `../` or `~`."""
    return address.startswith(_FOLDER)


def is_bucket(address: str) -> bool:
    """Whether it is a bucket of object storage, or a prefix of one."""
    return address.startswith("s3://")


def is_on_hub(address: str) -> bool:
    """Whether pretrained weights or a tokenizer are named by a repository of the Hugging Face Hub."""
    return not is_folder(address) and not is_bucket(address)
