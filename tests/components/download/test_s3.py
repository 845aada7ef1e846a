"""A corpus under a prefix of a bucket, on an emulated server."""

import boto3
import pytest

from components.download.fetch import fetch_corpus
from components.download.settings import DownloadSettings
from components.shared.base.failure import Failure
from components.shared.storage.store import open_store


@pytest.fixture
def bucket(s3_emulator, monkeypatch):
    """The address of an empty prefix, and a function that writes below it."""
    address, env = s3_emulator
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    client = boto3.client("s3")
    return address, lambda name, data: client.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=data)


def test_the_same_bytes_have_the_same_digest_as_from_a_folder(bucket, own_folder, texts, tmp_path):
    address, write = bucket
    for split, text in texts.items():
        write(f"{split}.txt", text)
    write("README", b"unused")
    store = open_store(str(tmp_path / "store"))
    from_bucket = fetch_corpus(DownloadSettings(corpus=address, name="ours"), tmp_path / "a", store)
    from_folder = fetch_corpus(DownloadSettings(corpus=str(own_folder)), tmp_path / "b", store)
    assert from_bucket.files == from_folder.files
    assert from_bucket.metadata["dataset_digest"] == from_folder.metadata["dataset_digest"]
    assert (from_bucket.metadata["source"], from_bucket.metadata["name"]) == (address, "ours")


def test_an_empty_prefix_is_named(bucket, tmp_path):
    address, _ = bucket
    with pytest.raises(Failure, match="no corpus under the prefix") as failure:
        fetch_corpus(DownloadSettings(corpus=address), tmp_path / "out", open_store(str(tmp_path / "store")))
    assert address in failure.value.where


def test_a_prefix_that_lacks_a_split_is_named(bucket, texts, tmp_path):
    address, write = bucket
    write("train.txt", texts["train"])
    write("test.txt", texts["test"])
    with pytest.raises(Failure, match=r"lacks a split: there is no validation\.txt") as failure:
        fetch_corpus(DownloadSettings(corpus=address), tmp_path / "out", open_store(str(tmp_path / "store")))
    assert failure.value.where == address
