"""The whole pipeline on small texts of many kinds, and the output that a person sees."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import TINY, Ended, wikigpt
from tests.texts.corpora import wikitext, without_blanks, write, write_wikitext

pytestmark = pytest.mark.slow
# A number that nobody can read; digests and identities have letters among their digits.
UNREADABLE = re.compile(r"(?<![\w.-])\d[\d,]{14,}(?!\w)")
BETTER = ["--set", "train.steps=60"]


def run(corpus: Path, home: Path, *arguments: object) -> Ended:
    return wikigpt("run", "--json", "--profile", TINY, "--home", home, "--corpus", corpus, *arguments)


def say(home: Path, outcome: dict[str, Any]) -> None:
    """No output for people contains a number with many digits, or one that is not finite."""
    listed = wikigpt("models", "--home", home).stdout
    reports = [Path(path).read_text(encoding="utf-8") for path in outcome["reports"].values()]
    prose = [re.sub(r"<svg.*?</svg>|<style>.*?</style>", "", report, flags=re.DOTALL) for report in reports]
    labels = [" ".join(re.findall(r"<text[^>]*>([^<]*)</text>", report)) for report in reports]
    for text in (listed, *prose, *labels):
        assert not UNREADABLE.search(text), UNREADABLE.search(text)
        assert not re.search(r"\b(nan|inf)\b", text)
    for evaluation in home.glob("runs/*/steps/*/evaluate/evaluation/evaluation.json"):
        json.loads(evaluation.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(name))


KINDS = {
    "without-blanks": lambda folder: write(folder, without_blanks()),
    "one-line": lambda folder: write_wikitext(folder, lambda text: text.replace("\n", " ")),
    "one-line-without-blanks": lambda folder: write(
        folder, {split: text.replace("\n", "") for split, text in without_blanks().items()}
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_better_challenger_becomes_champion(tmp_path, kind):
    corpus, home = KINDS[kind](tmp_path / kind), tmp_path / "home"
    first = run(corpus, home).document
    assert first["version"]["aliases"] == ["champion"]
    second = run(corpus, home, *BETTER).document
    assert (second["version"]["version"], second["version"]["aliases"]) == ("2", ["champion"])
    assert second["version"]["bits_per_byte"] < first["version"]["bits_per_byte"]
    assert (second["version"]["word_perplexity"] is None) == ("without-blanks" in kind)
    say(home, second)


OTHERS = {
    "brackets": lambda text: text.replace("Train", "[/bold] [red]Tr|ain `x` <b>").replace("Test", "[/] $x_1$ <b>"),
    "语料": lambda text: "\ufeff" + text.rstrip(),
    "корпус": lambda text: text.replace(" .", " <|endoftext|> .\u2028"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_text_of_another_kind_is_trained_on(tmp_path, kind):
    """Brackets that look like markup; a byte-order mark and no final newline; line separators and a special token."""
    home = tmp_path / "home"
    outcome = run(write_wikitext(tmp_path / kind, OTHERS[kind]), home).document
    assert outcome["status"] == "trained"
    assert outcome["version"]["name"] == f"wikigpt-{kind}"
    say(home, outcome)
    for report in outcome["reports"].values():
        assert "[red]" not in Path(report).read_text(encoding="utf-8") or kind == "brackets"


def test_two_corpora_of_one_name_never_meet(tmp_path):
    home = tmp_path / "home"
    first = run(write(tmp_path / "a" / "data", wikitext(1)), home).document
    second = run(write(tmp_path / "b" / "data", wikitext(2)), home).document
    assert first["version"]["name"] == "wikigpt-data" != second["version"]["name"]
    assert second["version"]["aliases"] == ["champion"]
