"""Measures the lines of a split, with a few bytes for each line.

A mark is 1 for a fault, 0 for no fault, and -1 if the question does not apply.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from components.shared.text.units import Unit

LONG_LINE: dict[Unit, int] = {"word": 10, "byte": 20}
_DAMAGED = "\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd"
_INVISIBLE = "\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff"
_ODD = re.compile(f"([{_DAMAGED}])|[{_INVISIBLE}]")
_HEADING = re.compile(r"((?:= )+)(?!=).+?((?: =)+)")


class LineMeasures:
    """The lines of one split.

    Attributes:
        unreadable: the number of places that are not UTF-8 by line number, which starts at 1.
        odd: the different descriptions of damaged and invisible characters in a line, such as "U+0085"; "" for none.
    """

    def __init__(self, unit: Unit):
        self.unreadable: dict[int, int] = {}
        self.odd: dict[str, int] = {"": 0}
        self._long = LONG_LINE[unit]
        self._level = 1  # of the last heading
        self._columns: dict[str, list[np.ndarray]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._columns.get("words", ())))

    def column(self, name: str) -> np.ndarray:
        """One number for each line.

        Args:
            name: `words`, a mark (`damaged`, `invisible`, `broken_heading`, `skipped_level`), `odd` (an index into the
                descriptions), `long` (whether the line is long), or `text` (a hash of the text of a long line).
        """
        return np.concatenate(self._columns[name]) if self._columns else np.zeros(0, np.int32)

    def add(self, lines: Sequence[str], words: np.ndarray) -> None:
        """Measures the next lines, which have so many words."""
        damaged, invisible, odd = self._odd_characters(lines)
        broken, skipped = self._headings(lines)
        is_long = words >= self._long
        texts = np.zeros(len(lines), np.int64)
        texts[is_long] = [hash(lines[index].strip()) for index in np.flatnonzero(is_long).tolist()]
        found = {"words": words.astype(np.int32), "damaged": damaged, "invisible": invisible, "odd": odd}
        found |= {"broken_heading": broken, "skipped_level": skipped, "long": is_long, "text": texts}
        for name, values in found.items():
            self._columns.setdefault(name, []).append(values)

    def _odd_characters(self, lines: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Marks lines with damaged and with invisible characters, and describes these: the damaged first, each once."""
        damaged, invisible = (np.zeros(len(lines), np.int8) for _ in range(2))
        odd = np.zeros(len(lines), np.int32)
        found: dict[int, tuple[dict[str, None], dict[str, None]]] = {}
        ends: list[int] = []
        for match in _ODD.finditer("".join(lines)):
            ends = ends or list(accumulate(map(len, lines)))
            line = bisect_right(ends, match.start())
            kinds = found.setdefault(line, ({}, {}))
            kinds[0 if match[1] else 1][match[0]] = None
        for line, kinds in found.items():
            damaged[line], invisible[line] = map(bool, kinds)
            text = " ".join(f"U+{ord(character):04X}" for kind in kinds for character in kind)
            odd[line] = self.odd.setdefault(text, len(self.odd))
        return damaged, invisible, odd

    def _headings(self, lines: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Marks lines that begin like a heading and do not end like one, and headings that skip a level."""
        broken, skipped = (np.full(len(lines), -1, np.int8) for _ in range(2))
        for index, line in enumerate(lines):
            if not line.lstrip(" ").startswith("= "):
                continue
            match = _HEADING.fullmatch(line.strip())
            level = match.group(1).count("=") if match else 0
            good = match is not None and level == match.group(2).count("=")
            broken[index] = not good
            if good:
                skipped[index] = level > self._level + 1
                self._level = level
        return broken, skipped
