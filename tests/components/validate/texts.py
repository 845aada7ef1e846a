"""Small texts in WikiText's format, made of invented words, and their validation."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from components.validate.checks import checks
from components.validate.corpus import Corpus, read_corpus
from components.validate.drift import Reference
from components.validate.expectations import run_checks
from components.validate.measures import build_tables
from components.validate.results import Result
from components.validate.settings import ValidateSettings

LETTERS = "abcdefghij"
VOCABULARY = [a + b + c for a in LETTERS for b in LETTERS for c in LETTERS]
FACTS = {
    "name": "own",
    "model_name": "wikigpt-own",
    "dataset_digest": "d" * 64,
    "licence": "CC0",
    "attribution": "Made up.",
    "source": "made up",
    "published": False,
}


def line(seed: int, words: int = 30) -> str:
    """A line of words that is different for every seed."""
    return f" {' '.join(random.Random(seed).choices(VOCABULARY, k=words))} . \n"


def article(seed: int, title: str | None = None, lines: int = 5) -> str:
    """A title, an opening, and a section."""
    body = [line(1000 * seed + number) for number in range(lines)]
    heading = f" \n = {title or f'Title {seed}'} = \n \n"
    return f"{heading}{''.join(body[: lines // 2])} \n = = Section = = \n \n{''.join(body[lines // 2 :])}"


def good() -> dict[str, str]:
    """A corpus that meets every expectation."""
    return {
        "train": "".join(article(seed) for seed in range(12)),
        "validation": "".join(article(seed) for seed in range(100, 103)),
        "test": "".join(article(seed) for seed in range(200, 203)),
    }


def write(folder: Path, texts: dict[str, str | bytes]) -> Path:
    """The splits of a corpus as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, text in texts.items():
        (folder / f"{split}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def read(folder: Path, texts: dict[str, str | bytes], **metadata: Any) -> Corpus:
    """The corpus of these texts."""
    return read_corpus(write(folder, texts), FACTS | metadata)


def results(
    corpus: Corpus, split: str, only: str = "", *, reference: Reference | None = None, **settings: Any
) -> dict[str, Result]:
    """The results of one split by name, or of one named expectation, which is faster."""
    limits = replace(ValidateSettings(), **settings)
    asked = [check for check in checks(corpus, limits, reference) if check.split == split]
    asked = [check for check in asked if only in ("", check.name)]
    return {result.name: result for result in run_checks(asked, build_tables(corpus, limits, reference))}
