"""Unpacks the splits from an untrusted zip or tar archive.

The decompressed size is limited by the compression ratio of text, independent of the size that the archive declares.
"""

from __future__ import annotations

import gzip
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from components.download.splits import KNOWN_NAMES
from components.shared.base.failure import Failure
from components.shared.storage.files import disk_failure

_LIMIT = 8 << 30
# Text is compressed about four times. A much higher ratio is a decompression bomb; small files may have any ratio.
_RATIO, _SMALL = 200, 64 << 20
_CHUNK = 1 << 20
# zipfile decompresses these methods in bounded pieces; a piece of another method may expand without limit.
_PACKED_BY = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
# zipfile raises RuntimeError for an unknown compression method.
_DAMAGE = (
    gzip.BadGzipFile,
    zipfile.BadZipFile,
    tarfile.TarError,
    EOFError,
    zlib.error,
    NotImplementedError,
    RuntimeError,
)


@dataclass(frozen=True)
class _Member:
    """An entry of an archive.

    Attributes:
        name: the name in the archive.
        size: the declared size in bytes.
        kind: "file", "folder" or "other" (a link, a device).
        open: a function that opens the content.
        bounded: whether reading decompresses only the requested bytes.
        encrypted: whether a password is needed.
    """

    name: str
    size: int
    kind: str
    open: Callable[[], IO[bytes]]
    bounded: bool = True
    encrypted: bool = False


def unpack(archive: Path, folder: Path, address: str) -> Path:
    """Checks every entry and then unpacks the split files.

    Args:
        archive: the archive file.
        folder: an empty folder.
        address: the address of the archive, for messages.

    Returns:
        The folder with the splits.

    Raises:
        Failure: the file is not an archive, is damaged, or contains an entry that an archive of text does not need.
    """
    try:
        with _members(archive, address) as members:
            _refuse_unsafe_entries(members, archive, address)
            splits = [member for member in members if member.kind == "file" and _is_split(member)]
            homes = {PurePosixPath(member.name).parent for member in splits}
            if len(homes) != 1:
                what = "holds no corpus" if not homes else "holds more than one corpus"
                raise Failure(
                    f"The archive {what}",
                    where=address,
                    remedy="give one with wiki.{train,valid,test}.tokens, or {train,validation,test}.txt",
                )
            for member in splits:
                _write(member, folder / PurePosixPath(member.name).name)
    except _DAMAGE as error:
        raise Failure(
            f"The archive is damaged: {str(error) or type(error).__name__}",
            where=address,
            remedy="run again to download it again; if that does not help, the file at that address is damaged",
        ) from error
    except OSError as error:
        raise disk_failure(error, folder) from error
    return folder


class _Gunzipped:
    """A gzip stream for tarfile that raises a failure if it decompresses to more than its limit."""

    def __init__(self, stream: gzip.GzipFile, limit: int, refusal: Callable[[], Failure]):
        self.stream, self.limit, self.refusal = stream, limit, refusal

    def tell(self) -> int:
        return self.stream.tell()

    def seek(self, position: int) -> int:
        if position > self.limit:
            raise self.refusal()
        return self.stream.seek(position)

    def read(self, size: int) -> bytes:
        data = self.stream.read(min(size, self.limit - self.tell() + 1))
        if self.tell() > self.limit:
            raise self.refusal()
        return data


@contextmanager
def _members(archive: Path, address: str) -> Iterator[list[_Member]]:
    with open(archive, "rb") as beginning:
        start = beginning.read(512)
    if start.startswith(b"PK"):
        with zipfile.ZipFile(archive) as opened:
            yield [_zipped(opened, info) for info in opened.infolist()]
    elif start.startswith(b"\x1f\x8b"):
        limit = _unpacked_limit(archive)
        why = f"unpacks to more than {limit:,} bytes from {archive.stat().st_size:,}"
        with gzip.open(archive) as gunzip:
            stream = _Gunzipped(gunzip, limit, lambda: _refusal(why, address))
            if not _begins_as_tar(stream):
                raise Failure(
                    "The gzip file holds no tar archive",
                    where=address,
                    remedy="give the address of a zip or tar.gz archive that holds the three splits",
                )
            with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:") as opened_tar:
                members = [_tarred(opened_tar, info) for info in opened_tar.getmembers()]
                while stream.read(_CHUNK):  # tarfile stops before the end, and gzip checks its checksum there
                    pass
                yield members
    else:
        html = start.lstrip()[:1] == b"<"
        raise Failure(
            "The address returns an HTML page and not an archive"
            if html
            else "The file is not a zip or tar.gz archive",
            where=address,
            remedy="give the address of the archive itself; a page that asks for a login also looks like this",
        )


def _begins_as_tar(stream: _Gunzipped) -> bool:
    try:
        tarfile.TarInfo.frombuf(stream.read(tarfile.BLOCKSIZE), tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        return False
    stream.seek(0)
    return True


def _unpacked_limit(archive: Path) -> int:
    """Returns the number of bytes that an archive of text may unpack to."""
    return min(_LIMIT, max(_SMALL, _RATIO * archive.stat().st_size))


def _zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    link = (info.external_attr >> 16) & 0o170000 == 0o120000
    kind = "folder" if info.is_dir() else "other" if link else "file"
    # `filename` would end at a NUL.
    name, bounded = info.orig_filename, info.compress_type in _PACKED_BY
    encrypted = bool(info.flag_bits & 1)
    return _Member(name, info.file_size, kind, lambda: archive.open(info), bounded, encrypted)


def _tarred(archive: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    def opened() -> IO[bytes]:
        stream = archive.extractfile(info)
        assert stream is not None, "only regular files are opened"
        return stream

    return _Member(info.name, info.size, "folder" if info.isdir() else "file" if info.isreg() else "other", opened)


def _refuse_unsafe_entries(members: list[_Member], archive: Path, address: str) -> None:
    seen: dict[str, _Member] = {}
    for member in members:
        if why := _unsafe_reason(member) or _ambiguous_reason(member, seen.setdefault(_key(member.name), member)):
            raise _refusal(why, address)
    total = sum(member.size for member in members)
    if total > _unpacked_limit(archive):
        raise _refusal(f"unpacks to {total:,} bytes from {archive.stat().st_size:,}", address)


def _unsafe_reason(member: _Member) -> str | None:
    path = PurePosixPath(member.name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
        return f"names a file outside itself: {member.name!r}"
    if member.kind == "other":
        return f"holds a link or a device: {member.name!r}"
    if not member.bounded:
        return f"compresses {member.name!r} by another method than deflate"
    if member.encrypted:
        return f"holds {member.name!r} encrypted by a password"
    return None


def _ambiguous_reason(member: _Member, first: _Member) -> str | None:
    """Returns why other programs could unpack an entry to another file, or keep another one of two entries.

    Args:
        member: the entry.
        first: the first entry with the same key, which may be the entry itself.
    """
    for mark, name in {"\\": "a backslash", "\0": "a NUL"}.items():
        if mark in member.name:
            return f"holds a name with {name}, which programs read differently: {member.name!r}"
    same = PurePosixPath(member.name) == PurePosixPath(first.name)
    if first is member or (same and member.kind == first.kind == "folder"):
        return None
    if same:
        return f"holds two entries of one name: {member.name!r}"
    return f"holds two names that are the same file on some systems: {first.name!r} and {member.name!r}"


def _key(name: str) -> str:
    """Maps names that some file system treats as equal to one key: case, Unicode form and trailing dots are ignored."""
    parts = (part.rstrip(" .") or part for part in PurePosixPath(name).parts)
    return unicodedata.normalize("NFC", "/".join(parts)).casefold()


def _refusal(why: str, address: str) -> Failure:
    return Failure(
        f"The archive is refused: it {why}", where=address, remedy="take the archive from a source that you trust"
    )


def _is_split(member: _Member) -> bool:
    return PurePosixPath(member.name).name in KNOWN_NAMES


def _write(member: _Member, target: Path) -> None:
    with member.open() as source, open(target, "wb") as out:
        while piece := source.read(_CHUNK):
            out.write(piece)
