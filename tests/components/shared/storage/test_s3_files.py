"""Objects are downloaded to files in bounded memory; the server runs in another process."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from components.download.s3 import download_prefix
from components.shared.base.failure import ExitCode, Failure
from components.shared.model.pretrained import fetch_pretrained
from components.shared.storage.s3 import S3Objects
from components.shared.storage.s3_files import download_file
from components.train.settings import TrainSettings
from components.train.weights import digest_of_pretrained, fetch_weights

SMALL, LARGE = b"{}", os.urandom(1 << 20) * 12


@pytest.fixture
def objects(s3_emulator: tuple[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> S3Objects:
    address, variables = s3_emulator
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return S3Objects(address)


def peak_of(work: Callable[[], object]) -> int:
    """The peak memory of Python's objects within the block, in bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def assert_bounded(objects: S3Objects, name: str, work: Callable[[], object]) -> None:
    """A large object needs little more memory than a small one; boto3 itself needs more than both."""
    objects.put(name, SMALL)
    work()  # the first time, much is imported
    small = peak_of(work)
    objects.put(name, LARGE)
    assert peak_of(work) - small < len(LARGE) // 2


@pytest.mark.slow
def test_pretrained_weights_are_downloaded_and_hashed_in_bounded_memory(objects: S3Objects, tmp_path: Path) -> None:
    objects.put("config.json", SMALL)
    settings = TrainSettings(steps=1, pretrained=objects.uri)

    def bring_and_hash() -> None:
        folder = fetch_weights(settings, tmp_path / "work")
        assert folder
        digest_of_pretrained(folder)

    assert_bounded(objects, "model.safetensors", bring_and_hash)
    assert (tmp_path / "work" / "model.safetensors").read_bytes() == LARGE


def test_a_corpus_is_downloaded_from_a_bucket_in_bounded_memory(objects: S3Objects, tmp_path: Path) -> None:
    assert_bounded(objects, "train.txt", lambda: download_prefix(objects.uri, tmp_path))
    assert (tmp_path / "train.txt").read_bytes() == LARGE


def test_only_the_files_of_the_part_are_downloaded(objects: S3Objects, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "pytorch_model.bin", "deeper/model.safetensors"):
        objects.put(name, b"bytes")
    fetch_pretrained("weights", objects.uri, "", tmp_path / "work")
    assert {path.name for path in (tmp_path / "work").rglob("*")} == {"config.json", "model.safetensors"}


def test_a_missing_object_is_not_a_failure(objects: S3Objects, tmp_path: Path) -> None:
    assert not download_file(objects, "absent", tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_an_empty_object_is_an_empty_file(objects: S3Objects, tmp_path: Path) -> None:
    objects.put("empty", b"")
    assert download_file(objects, "empty", tmp_path / "deep" / "file")
    assert (tmp_path / "deep" / "file").read_bytes() == b""


def test_an_unreachable_storage_is_named(objects: S3Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(Failure, match="Object storage cannot be reached") as caught:
        download_file(S3Objects(objects.uri), "x", tmp_path / "file")
    assert caught.value.exit_code == ExitCode.UNREACHABLE


def test_a_disk_that_cannot_be_written_is_named(objects: S3Objects, tmp_path: Path) -> None:
    objects.put("x", b"bytes")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Failure, match="Could not write"):
        download_file(objects, "x", tmp_path / "file" / "below")
