"""Generates the `sample` corpus: invented articles in WikiText's format, the same bytes on every machine.

The product ships its output as compressed package data. After a change of the grammar, write it again by
`python -m tests.sample_corpus.generator`. The random numbers come from its own generator,
since those of `random` may change between versions of Python.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.sample_corpus.grammar import KINDS, SECTIONS, SYMBOLS

ARTICLES = {"train": 200, "validation": 24, "test": 24}
_SEED = 20
_SLOT = re.compile(r"\{([^{}]+?)(\.?)\}")
_MASK = (1 << 64) - 1
_ONSETS = (
    "b",
    "br",
    "d",
    "dr",
    "f",
    "g",
    "h",
    "k",
    "kl",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "sk",
    "st",
    "t",
    "th",
    "v",
    "w",
)
_VOWELS = ("a", "e", "i", "o", "u", "ae", "ei", "y")
_CODAS = ("", "", "l", "n", "r", "s", "m", "rn", "ld", "th")
_ENDINGS = {
    "place": ("ham", "wick", "ford", "by", "mouth", "stead"),
    "land": ("ia", "mark", "land"),
    "river": ("a", "e"),
}


@dataclass
class Rng:
    """SplitMix64 (Steele, Lea, Flood 2014), in plain integers."""

    state: int = _SEED

    def randbelow(self, bound: int) -> int:
        """An integer from 0 to bound - 1."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & _MASK
        mixed = self.state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return (mixed ^ (mixed >> 31)) % bound

    def choice(self, choices: Sequence[str]) -> str:
        return choices[self.randbelow(len(choices))]

    def permutation(self, choices: Sequence[str]) -> list[str]:
        """A permutation (Fisher and Yates)."""
        rest = list(choices)
        for last in range(len(rest) - 1, 0, -1):
            other = self.randbelow(last + 1)
            rest[last], rest[other] = rest[other], rest[last]
        return rest


@dataclass
class World:
    """The names that the articles share, and the titles that are used."""

    rng: Rng = field(default_factory=Rng)
    places: list[str] = field(default_factory=list)
    lands: list[str] = field(default_factory=list)
    rivers: list[str] = field(default_factory=list)
    surnames: list[str] = field(default_factory=list)
    givens: list[str] = field(default_factory=list)
    titles: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.places = [self.invent("place") for _ in range(60)]
        self.lands = [self.invent("land") for _ in range(12)]
        self.rivers = [self.invent("river") for _ in range(24)]
        self.surnames = [self.invent("surname") for _ in range(60)]
        self.givens = [self.invent("given") for _ in range(30)]

    def invent(self, kind: str) -> str:
        """A name that fits its kind."""
        syllables = [self.rng.choice(_ONSETS) + self.rng.choice(_VOWELS) + self.rng.choice(_CODAS) for _ in range(2)]
        return ("".join(syllables) + self.rng.choice(_ENDINGS.get(kind, ("",)))).capitalize()

    def title(self, kind: str) -> str:
        """A title that no other article has."""
        while True:
            name = self.invent("place" if kind in ("town", "castle") else "title")
            if kind == "person":
                name = f"{self.rng.choice(self.givens)} {name}"
            elif kind == "bird":
                name = f"{name} {self.rng.choice(('warbler', 'finch', 'plover', 'thrush', 'owl', 'rail'))}"
            if name not in self.titles:
                self.titles.add(name)
                return name


def generate() -> dict[str, bytes]:
    """The three splits; every article is in one of them only."""
    world = World()
    return {
        split: ("".join(_article(world, index) for index in range(count)) + " \n").encode()
        for split, count in ARTICLES.items()
    }


def _article(world: World, index: int) -> str:
    kind = KINDS[index % len(KINDS)]
    name = world.title(kind)
    year = 1400 + world.rng.randbelow(450)
    fixed = {
        "name": name,
        "land": world.rng.choice(world.lands),
        "river": world.rng.choice(world.rivers),
        "year": str(year),
        "late": str(year + 20 + world.rng.randbelow(60)),
    }
    title = f"{name} Castle" if kind == "castle" else name
    parts = [f" \n = {title} = \n \n {_sentence(world, fixed, f'{kind}.lead')} \n"]
    for section in SECTIONS[kind]:
        parts.append(f" \n = = {section} = = \n \n")
        parts += [f" {_paragraph(world, fixed, f'{kind}.{section}')} \n" for _ in range(1 + world.rng.randbelow(3))]
    return "".join(parts)


def _paragraph(world: World, fixed: dict[str, str], symbol: str) -> str:
    patterns = world.rng.permutation(SYMBOLS[symbol])[: 3 + world.rng.randbelow(3)]
    return " ".join(_expand(world, fixed, pattern) for pattern in patterns)


def _sentence(world: World, fixed: dict[str, str], symbol: str) -> str:
    return _expand(world, fixed, world.rng.choice(SYMBOLS[symbol]))


def _expand(world: World, fixed: dict[str, str], pattern: str) -> str:
    """Fills the slots of a pattern from left to right; a slot that ends in a dot starts with a capital letter."""

    def fill(match: re.Match[str]) -> str:
        text = _expand(world, fixed, _draw(world, fixed, match[1]))
        return text[:1].upper() + text[1:] if match[2] else text

    words = " ".join(_SLOT.sub(fill, pattern).split())
    return words.replace(", .", ".").replace(", ,", ",")


def _draw(world: World, fixed: dict[str, str], symbol: str) -> str:
    rng = world.rng
    if symbol in fixed:
        return fixed[symbol]
    if symbol in SYMBOLS:
        return rng.choice(SYMBOLS[symbol])
    match symbol:
        case "place":
            return rng.choice(world.places)
        case "surname":
            return rng.choice(world.surnames)
        case "full":
            return f"{rng.choice(world.givens)} {rng.choice(world.surnames)}"
        case "digit":
            return str(1 + rng.randbelow(9))
        case "day":
            return str(1 + rng.randbelow(28))
        case "hundreds":
            return str(100 + rng.randbelow(900))
        case "n":
            return str(10 + rng.randbelow(90))
    raise KeyError(symbol)


def write(folder: Path) -> None:
    """Writes the compressed splits that the product ships."""
    for split, text in generate().items():
        (folder / f"{split}.txt.xz").write_bytes(lzma.compress(text, preset=9))


if __name__ == "__main__":
    write(Path(__file__).parents[2] / "components" / "download" / "sample_corpus")
