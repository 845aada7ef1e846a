"""The `sample` corpus: invented articles in WikiText's format, the same bytes on every machine.

It is for a machine without a network and for tests. It is made by the project from `sample_grammar`, so nobody's text
is copied, and its drawing of lots is its own, since that of `random` may change between versions of Python.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from components.download.sample_grammar import KINDS, SECTIONS, SYMBOLS

ARTICLES = {"train": 200, "validation": 24, "test": 24}
LICENCE = "Apache-2.0"
ATTRIBUTION = "Sample text made by Wiki-GPT's own generator; every name in it is invented"
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
class Lots:
    """SplitMix64 (Steele, Lea, Flood 2014), in plain integers."""

    state: int = _SEED

    def below(self, bound: int) -> int:
        """An integer from 0 to bound - 1."""
        self.state = (self.state + 0x9E3779B97F4A7C15) & _MASK
        mixed = self.state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return (mixed ^ (mixed >> 31)) % bound

    def pick(self, choices: Sequence[str]) -> str:
        return choices[self.below(len(choices))]

    def order(self, choices: Sequence[str]) -> list[str]:
        """A permutation (Fisher and Yates)."""
        rest = list(choices)
        for last in range(len(rest) - 1, 0, -1):
            other = self.below(last + 1)
            rest[last], rest[other] = rest[other], rest[last]
        return rest


@dataclass
class World:
    """What the articles share, and the titles that are taken."""

    lots: Lots = field(default_factory=Lots)
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
        """A name that looks as if it belonged there."""
        syllables = [self.lots.pick(_ONSETS) + self.lots.pick(_VOWELS) + self.lots.pick(_CODAS) for _ in range(2)]
        return ("".join(syllables) + self.lots.pick(_ENDINGS.get(kind, ("",)))).capitalize()

    def title(self, kind: str) -> str:
        """A title that no other article has."""
        while True:
            name = self.invent("place" if kind in ("town", "castle") else "title")
            if kind == "person":
                name = f"{self.lots.pick(self.givens)} {name}"
            elif kind == "bird":
                name = f"{name} {self.lots.pick(('warbler', 'finch', 'plover', 'thrush', 'owl', 'rail'))}"
            if name not in self.titles:
                self.titles.add(name)
                return name


def sample_corpus() -> dict[str, bytes]:
    """The three splits; every article stands in one of them only."""
    world = World()
    return {
        split: ("".join(_article(world, index) for index in range(count)) + " \n").encode()
        for split, count in ARTICLES.items()
    }


def _article(world: World, index: int) -> str:
    kind = KINDS[index % len(KINDS)]
    name = world.title(kind)
    year = 1400 + world.lots.below(450)
    fixed = {
        "name": name,
        "land": world.lots.pick(world.lands),
        "river": world.lots.pick(world.rivers),
        "year": str(year),
        "late": str(year + 20 + world.lots.below(60)),
    }
    title = f"{name} Castle" if kind == "castle" else name
    parts = [f" \n = {title} = \n \n {_sentence(world, fixed, f'{kind}.lead')} \n"]
    for section in SECTIONS[kind]:
        parts.append(f" \n = = {section} = = \n \n")
        parts += [f" {_paragraph(world, fixed, f'{kind}.{section}')} \n" for _ in range(1 + world.lots.below(3))]
    return "".join(parts)


def _paragraph(world: World, fixed: dict[str, str], symbol: str) -> str:
    patterns = world.lots.order(SYMBOLS[symbol])[: 3 + world.lots.below(3)]
    return " ".join(_expand(world, fixed, pattern) for pattern in patterns)


def _sentence(world: World, fixed: dict[str, str], symbol: str) -> str:
    return _expand(world, fixed, world.lots.pick(SYMBOLS[symbol]))


def _expand(world: World, fixed: dict[str, str], pattern: str) -> str:
    """Fills the slots of a pattern, left to right; a slot that ends in a dot starts with a capital."""

    def fill(match: re.Match[str]) -> str:
        text = _expand(world, fixed, _draw(world, fixed, match[1]))
        return text[:1].upper() + text[1:] if match[2] else text

    words = " ".join(_SLOT.sub(fill, pattern).split())
    return words.replace(", .", ".").replace(", ,", ",")


def _draw(world: World, fixed: dict[str, str], symbol: str) -> str:
    lots = world.lots
    if symbol in fixed:
        return fixed[symbol]
    if symbol in SYMBOLS:
        return lots.pick(SYMBOLS[symbol])
    match symbol:
        case "place":
            return lots.pick(world.places)
        case "surname":
            return lots.pick(world.surnames)
        case "full":
            return f"{lots.pick(world.givens)} {lots.pick(world.surnames)}"
        case "digit":
            return str(1 + lots.below(9))
        case "day":
            return str(1 + lots.below(28))
        case "hundreds":
            return str(100 + lots.below(900))
        case "n":
            return str(10 + lots.below(90))
    raise KeyError(symbol)
