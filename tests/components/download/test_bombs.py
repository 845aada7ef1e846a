"""Archive bombs would fill the memory or the disk: no more is decompressed than a text can contain."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tenacity import wait_none

from components.download import archive
from components.download.archive import unpack
from components.download.fetch import fetch_corpus
from components.download.settings import DownloadSettings
from components.download.web import download
from components.shared.base.failure import Failure
from components.shared.storage.store import open_store
from tests.components.download.conftest import tar_of
from tests.components.download.server import Site, serving

LIMIT, LARGE = 2 << 20, 24 << 20


@pytest.fixture(autouse=True)
def low_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small limit on the size of a text, so that a bomb takes less than a second."""
    monkeypatch.setattr(archive, "_SMALL", LIMIT)
    monkeypatch.setattr(archive, "_RATIO", 2)


@pytest.fixture
def gunzipped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all pieces that gzip decompresses."""
    sizes: list[int] = []
    read = gzip._GzipReader.read  # type: ignore[attr-defined]

    def counted(reader: object, size: int = -1) -> bytes:
        data = read(reader, size)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(gzip._GzipReader, "read", counted)  # type: ignore[attr-defined]
    return sizes


def tar(*members: tuple[str, bytes], after: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers=headers) as opened:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
    return buffer.getvalue() + after


BOMBS = {
    "a split": lambda: gzip.compress(tar(("train.txt", bytes(LARGE)))),
    "a file that is no split": lambda: gzip.compress(tar(("train.txt", b"text"), ("README", bytes(LARGE)))),
    "many small files": lambda: gzip.compress(tar(*[(f"{n}/x", bytes(1 << 16)) for n in range(LARGE >> 16)])),
    "behind the end of the tar": lambda: gzip.compress(tar(("train.txt", b"text"), after=bytes(LARGE))),
    "a header": lambda: gzip.compress(tar(("train.txt", b"text"), headers={"comment": "x" * LARGE})),
    "one gzip file after another": lambda: b"".join(
        gzip.compress(part) for part in (tar(("train.txt", b"text")), *[bytes(LARGE >> 3)] * 8)
    ),
}


@pytest.mark.parametrize("make", BOMBS.values(), ids=BOMBS)
def test_gzip_is_decompressed_up_to_the_limit(make: Callable[[], bytes], gunzipped: list[int], tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(make())
    with pytest.raises(Failure, match=r"The archive is refused: it unpacks to more than 2,097,152 bytes from"):
        unpack(tmp_path / "archive", tmp_path, "https://host/bomb.tar.gz")
    assert sum(gunzipped) <= LIMIT + (1 << 20)


def test_gzip_without_a_tar_is_not_decompressed(gunzipped: list[int], tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(gzip.compress(bytes(LARGE)))
    with pytest.raises(Failure, match="The gzip file holds no tar archive"):
        unpack(tmp_path / "archive", tmp_path, "https://host/bomb.tar.gz")
    assert sum(gunzipped) <= 1 << 16


def test_an_archive_below_the_limit_is_read_as_often_as_it_must(
    gunzipped: list[int], texts: dict[str, bytes], tmp_path: Path
) -> None:
    """The archive is read once for its entries and its checksum, and once for their contents."""
    data = tar_of({f"{split}.txt": text * 2000 for split, text in texts.items()})
    (tmp_path / "archive").write_bytes(data)
    unpack(tmp_path / "archive", tmp_path, "https://host/corpus.tar.gz")
    assert sum(gunzipped) <= 2 * len(gzip.decompress(data))


def lying_zip(method: int, *, announced: int) -> bytes:
    """A zip whose one split is larger than it announces."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as opened:
        opened.writestr("train.txt", bytes(LARGE))
        opened.infolist()[0].file_size = announced
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (zipfile.ZIP_DEFLATED, "damaged: Bad CRC-32"),
        (zipfile.ZIP_BZIP2, "compresses 'train.txt' by another method than deflate"),
        (zipfile.ZIP_LZMA, "compresses 'train.txt' by another method than deflate"),
    ],
)
def test_a_zip_that_lies_about_a_size_fills_no_memory(method: int, words: str, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(lying_zip(method, announced=1000))
    tracemalloc.start()
    try:
        with pytest.raises(Failure, match=words):
            unpack(tmp_path / "archive", tmp_path, "https://host/bomb.zip")
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert not (tmp_path / "train.txt").exists() or (tmp_path / "train.txt").stat().st_size <= 1000


@pytest.mark.parametrize("compress", [bz2.compress, lzma.compress])
def test_other_compressions_are_not_begun(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(compress(tar(("train.txt", b"text"))))
    with pytest.raises(Failure, match=r"not a zip or tar\.gz archive"):
        unpack(tmp_path / "archive", tmp_path, "https://host/corpus.tar.xz")


def test_an_archive_in_an_archive_stays_packed(texts: dict[str, bytes], tmp_path: Path) -> None:
    inner = gzip.compress(bytes(LARGE))
    (tmp_path / "archive").write_bytes(tar_of({"train.txt": inner, "validation.txt": b"v", "test.txt": b"t"}))
    unpack(tmp_path / "archive", tmp_path, "https://host/corpus.tar.gz")
    assert (tmp_path / "train.txt").read_bytes() == inner


def test_a_refusal_is_not_repeated(gunzipped: list[int], tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    with serving(Site(BOMBS["a split"]())) as site, pytest.raises(Failure, match="unpacks to more than"):
        fetch_corpus(DownloadSettings(corpus=site.url), tmp_path / "out", store)
    assert len(site.ranges) == 1
    assert sum(gunzipped) <= LIMIT + (1 << 20)


def test_an_encoding_that_nobody_asked_for_is_not_decoded(tmp_path: Path) -> None:
    """A server declares a gzip file as a gzip-encoded transfer: the file is stored as it was sent."""
    content = gzip.compress(bytes(LARGE))
    with serving(Site(content, faults=["cut"], headers={"Content-Encoding": "gzip"})) as site:
        download(site.url, tmp_path / "file", wait=wait_none())
    assert (tmp_path / "file").read_bytes() == content
    assert site.ranges[1] == f"bytes={len(content) // 2}-"
