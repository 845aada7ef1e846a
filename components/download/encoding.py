"""Checks that a split is UTF-8 text with newlines, and names the command that converts it if it is not.

Only a byte-order mark is removed here: it is not part of the text, and a title line after it would not be recognized.
"""

from __future__ import annotations

import codecs
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from components.shared.base.failure import Failure
from components.shared.text.articles import read_pieces

_MARK = codecs.BOM_UTF8
_SAMPLE = 1 << 16  # bytes
# The longer marks come first, since the mark of UTF-32 begins like that of UTF-16.
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_WIDE = ("UTF-32LE", "UTF-32BE", "UTF-16LE", "UTF-16BE")
_PACKED = {
    b"\x1f\x8b": "a gzip file",
    b"PK\x03\x04": "a zip archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ\0": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF file",
}
_BREAKS = {
    "\x85": "U+0085 (next line)",
    "\u2028": "U+2028 (line separator)",
    "\u2029": "U+2029 (paragraph separator)",
}
_LINE_ENDS = ("\n", "\r\n", "\r", *_BREAKS)
# The lines per thousand that may end in CRLF, as in a text from many sources.
_STRAY = 1
# A text with a larger share of bytes that are not ASCII is not in the Latin alphabet.
_DENSE = 0.4
# The iconv names of encodings whose Python names iconv does not know.
_ICONV = {"euc_jis_2004": "EUC-JP", "euc_jisx0213": "EUC-JP"}


def without_byte_order_marks(data: bytes) -> bytes:
    """Removes byte-order marks at the beginning of the text and of lines.

    Marks within lines are kept: they are characters of the text, as in WikiText-2.
    """
    while data.startswith(_MARK):
        data = data.removeprefix(_MARK)
    while b"\n" + _MARK in data:
        data = data.replace(b"\n" + _MARK, b"\n")
    return data


def has_byte_order_mark(lines: bytes) -> bool:
    """Whether some whole lines have a mark at the beginning of one of them."""
    return lines.startswith(_MARK) or b"\n" + _MARK in lines


@dataclass
class _Survey:
    """What a pass over a file in pieces of whole lines finds.

    Attributes:
        blank: whether it has white space only.
        nul: whether it has NUL bytes.
        wrong: the offset of the first byte that is not UTF-8, or None.
        counts: the occurrences of each line end.
    """

    blank: bool = True
    nul: bool = False
    wrong: int | None = None
    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, path: Path) -> _Survey:
        found, before = cls(), 0
        for piece in read_pieces(path):
            found.blank = found.blank and not piece.strip()
            found.nul = found.nul or b"\0" in piece
            if found.wrong is None and (wrong := _first_wrong(piece)) is not None:
                found.wrong = before + wrong
            for end in _LINE_ENDS:
                found.counts[end] += piece.count(end.encode())
            before += len(piece)
        return found


def check_text(split: str, path: Path, where: str) -> None:
    """Refuses a split that is not plain UTF-8 text. A good text is read a few megabytes at a time.

    Args:
        split: the name of the split.
        path: the file of the split, without byte-order marks.
        where: the file, for messages.

    Raises:
        Failure: the split is empty, is not UTF-8, contains NUL bytes, or does not end its lines with newlines.
    """
    found = _Survey.of(path)
    if found.blank:
        raise Failure(f"The {split} split is empty", where=where, remedy="add text to it")
    flaw = _of_encoding(path.read_bytes(), found.wrong, path.name) if found.nul or found.wrong is not None else None
    if flaw := flaw or _of_line_ends(found.counts, path.name):
        what, remedy = flaw
        raise Failure(f"The {split} split {what}", where=where, remedy=remedy)


def _of_encoding(data: bytes, wrong: int | None, name: str) -> tuple[str, str]:
    """Returns the predicate of the message and the remedy, for a text with NUL bytes or bytes that are not UTF-8."""
    nul = data.find(b"\0")
    if kind := next((kind for start, kind in _PACKED.items() if data.startswith(start)), None):
        return f"is {kind}, not text", "unpack it, and give the text itself"
    marked = next((encoding for mark, encoding in _MARKS.items() if data.startswith(mark)), None)
    wide = marked or next((encoding for encoding in _WIDE if nul >= 0 and _reads_as(encoding, data)), None)
    if wide:
        return f"is {wide}, not UTF-8", _converted(wide, name)
    if wrong is not None:
        line = data.count(b"\n", 0, wrong) + 1
        return f"is not UTF-8: byte 0x{data[wrong]:02x} in line {line}", _converted_by_guess(data, wrong, name)
    line = data.count(b"\n", 0, nul) + 1
    return f"holds a NUL byte in line {line}", "give plain UTF-8 text; this looks like a binary file"


def _first_wrong(data: bytes) -> int | None:
    """Returns the position of the first byte that is not UTF-8, or None."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start
    return None


def _reads_as(encoding: str, data: bytes) -> bool:
    """Whether the bytes are lines of text in an encoding with two or four bytes per character."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(data[:_SAMPLE])
    except UnicodeDecodeError:
        return False
    odd = sum(unicodedata.category(letter) in ("Cc", "Cn", "Co", "Cs") for letter in text if letter not in "\t\n\r")
    return ("\n" in text or " " in text) and odd <= len(text) / 100


def _converted_by_guess(data: bytes, wrong: int, name: str) -> str:
    text = data[max(0, wrong - 16 * _SAMPLE) : wrong + 16 * _SAMPLE].decode(errors="replace")
    if sum(letter > "\x7f" for letter in text) > 10 * text.count("\ufffd"):
        return f"fix that line, or drop what is damaged by {_through(f'iconv -c -f UTF-8 -t UTF-8 {name}', name)}"
    sample = data[wrong:][:_SAMPLE]
    if sum(byte > 127 for byte in sample) > _DENSE * len(sample):
        from charset_normalizer import from_bytes

        if (best := from_bytes(sample).best()) and not best.encoding.startswith("utf"):
            guess = _ICONV.get(best.encoding, best.encoding.replace("_", "-").upper())
            return f"it looks like {guess}; if it is, {_converted(guess, name)}"
    return f"convert it, for Latin-1 by {_through(f'iconv -f latin1 -t utf-8 {name}', name)}"


def _of_line_ends(counts: Counter[str], name: str) -> tuple[str, str] | None:
    lines, pairs, returns = counts["\n"], counts["\r\n"], counts["\r"]
    if 1000 * pairs > _STRAY * lines:
        what = f"ends {pairs:,} of its {lines:,} lines by CRLF, as on Windows"
        return what, rf"convert its line ends by `sed -i 's/\r$//' {name}`"
    if returns - pairs > lines:
        command = _through(rf"tr '\r' '\n' < {name}", name)
        return "ends its lines by CR, as on an old Mac", f"convert its line ends by {command}"
    for mark, shown in _BREAKS.items():
        if counts[mark] > lines:
            pattern = "".join(f"\\x{byte:02x}" for byte in mark.encode())
            command = rf"`LC_ALL=C sed -i 's/{pattern}/\n/g' {name}`"
            return f"ends its lines by {shown}", f"convert its line ends by {command}"
    return None


def _converted(encoding: str, name: str) -> str:
    return f"convert it by {_through(f'iconv -f {encoding} -t UTF-8 {name}', name)}"


def _through(command: str, name: str) -> str:
    """Returns a command that replaces the file by the output of another command."""
    return f"`{command} > {name}.new && mv {name}.new {name}`"
