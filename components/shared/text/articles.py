"""The structure of a corpus in WikiText's format: lines, words, articles.

A title is a line ` = Title = ` between two blank lines or at the start or end of the text. This rule finds the 600, 60
and 60 articles of WikiText-2, in which two other lines look like titles.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

SPLITS = ("train", "validation", "test")
HELD_OUT = SPLITS[1:]
SPLIT_FILE = {split: f"{split}.txt" for split in SPLITS}  # the files in a folder of kind corpus
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


def read_splits(folder: Path) -> dict[str, str]:
    """The text of every split in a folder of kind corpus, with line ends unchanged."""
    return {split: (folder / name).read_bytes().decode() for split, name in SPLIT_FILE.items()}


def split_articles(text: str) -> list[Article]:
    """The articles of a split, in order; a text without titles is one article."""
    lines = split_lines(text)
    starts = [index for index in range(len(lines)) if _is_title(lines, index)]
    if not starts or any(line.strip() for line in lines[: starts[0]]):
        starts = [0, *starts]
    elif starts:
        starts[0] = 0
    bounds = [*starts, len(lines)]
    return [
        Article(title=_title_of(lines[start:end]), text="".join(lines[start:end]))
        for start, end in pairwise(bounds)
        if end > start
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
