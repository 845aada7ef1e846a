"""The structure of a corpus in WikiText's format: lines, words, articles.

A title is a line ` = Title = ` between two blank lines or at the start or end of the text. This rule finds the 600, 60
and 60 articles of WikiText-2, in which two other lines look like titles.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path

SPLITS = ("train", "validation", "test")
HELD_OUT = SPLITS[1:]
SPLIT_FILE = {split: f"{split}.txt" for split in SPLITS}  # the files in a folder of kind corpus
# Bytes of a file that are read at once.
BLOCK = 1 << 21
_TITLE = re.compile(r"^ = (?!= )(.*[^= ]) = ?$")


@dataclass(frozen=True)
class Article:
    """Consecutive lines of a text. The articles of a text are contiguous: joined, they are the text.

    Attributes:
        title: the title, or "" for text before the first title.
        text: the article with its title line and line ends.
    """

    title: str
    text: str

    @property
    def body(self) -> str:
        """The text without its title."""
        return self.text.replace(f" = {self.title} = ", "", 1)


@dataclass(frozen=True)
class Block:
    """Consecutive lines of a text.

    Attributes:
        lines: the lines with their ends.
        starts: the articles that begin in this block: the index of the first line in `lines`, and the title.
    """

    lines: list[str]
    starts: list[tuple[int, str]]


def read_pieces(path: Path, size: int = BLOCK) -> Iterator[bytes]:
    """Yields a file in pieces of whole lines, each of about `size` bytes or of one longer line."""
    with open(path, "rb") as stream:
        while piece := stream.read(size):
            yield piece if piece.endswith(b"\n") else piece + stream.readline()


def article_blocks(pieces: Iterable[str]) -> Iterator[Block]:
    """Finds the articles of a text given in pieces of whole lines; pieces of any size give the same articles."""
    previous: list[str] = []  # the line before `lines`
    lines: list[str] = []
    only_blank = True  # before the first title, so that the first article begins with these lines
    for piece in chain(pieces, [""]):
        lines += split_lines(piece)
        count = len(lines) - 1 if piece else len(lines)  # whether a line is a title depends on the next one
        if count <= 0:
            continue
        starts = [] if previous else [(0, _title_of(lines[:2]))]
        around = [*previous, *lines]
        for index, line in enumerate(lines[:count]):
            if not only_blank and line.startswith(" = ") and _is_title(around, index + len(previous)):
                starts.append((index, _title_of([line])))
            only_blank = only_blank and not line.strip()
        yield Block(lines[:count], starts)
        previous, lines = [lines[count - 1]], lines[count:]


def split_articles(text: str) -> list[Article]:
    """The articles of a split, in order; a text without titles is one article."""
    lines: list[str] = []
    starts: list[tuple[int, str]] = []
    for block in article_blocks([text]):
        starts += [(len(lines) + index, title) for index, title in block.starts]
        lines += block.lines
    bounds = [*(index for index, _ in starts), len(lines)]
    return [
        Article(title=title, text="".join(lines[start:end]))
        for (_, title), (start, end) in zip(starts, pairwise(bounds), strict=True)
    ]


def split_lines(text: str) -> list[str]:
    """Lines with their ends. Only a newline ends a line, whereas `str.splitlines` also splits at U+2028 and others."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def count_words(text: str) -> int:
    """Words as WikiText's published results count them: tokens between white space, and one line end per line."""
    return len(text.split()) + count_lines(text)


def count_lines(text: str) -> int:
    """Lines, including a last one without a newline."""
    return text.count("\n") + (not text.endswith("\n") and text != "")


def _is_title(lines: list[str], index: int) -> bool:
    before_is_blank = index == 0 or not lines[index - 1].strip()
    after_is_blank = index + 1 == len(lines) or not lines[index + 1].strip()
    return before_is_blank and after_is_blank and _TITLE.match(lines[index].rstrip("\n")) is not None


def _title_of(lines: list[str]) -> str:
    for line in lines[:2]:
        if match := _TITLE.match(line.rstrip("\n")):
            return match.group(1).strip()
    return ""
