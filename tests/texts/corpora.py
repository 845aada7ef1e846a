"""Small corpora of many kinds, made from a seed: texts that people give to a pipeline for English Wikipedia."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

SPLITS = ("train", "validation", "test")
SIZES = (40, 12, 12)  # articles a split


def sentences(draw: random.Random, words: Sequence[str], count: int) -> str:
    return " ".join(draw.choice(words) for _ in range(count)) + " ."


def wikitext(seed: int = 5, sizes: Sequence[int] = SIZES) -> dict[str, str]:
    """Articles in WikiText's format, by split."""
    draw = random.Random(seed)
    letters = "abcdefghijklmnoprstuvw"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(900)]

    def article(split: str, number: int) -> str:
        body = "".join(f" {sentences(draw, words, 60)} \n \n" for _ in range(4))
        return f" \n = {split.title()} {number} {draw.choice(words)} = \n \n{body}"

    return {
        split: "".join(article(split, number) for number in range(size))
        for split, size in zip(SPLITS, sizes, strict=True)
    }


def without_blanks(seed: int = 5, lines: Sequence[int] = (1500, 150, 150), length: tuple[int, int] = (50, 70)):
    """Lines of Chinese characters by split, without blanks."""
    draw = random.Random(seed)
    signs = [chr(0x4E00 + draw.randrange(1500)) for _ in range(1500)]
    return {
        split: "".join("".join(draw.choices(signs, k=draw.randint(*length))) + "。\n" for _ in range(count))
        for split, count in zip(SPLITS, lines, strict=True)
    }


def write(folder: Path, texts: dict[str, str] | dict[str, bytes]) -> Path:
    """Writes train.txt, validation.txt and test.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, text in texts.items():
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        (folder / f"{split}.txt").write_bytes(data)
    return folder


def write_wikitext(folder: Path, change: Callable[[str], str] = str, sizes: Sequence[int] = SIZES) -> Path:
    """A corpus in WikiText's format, each split changed by a function."""
    return write(folder, {split: change(text) for split, text in wikitext(sizes=sizes).items()})
