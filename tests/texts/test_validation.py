"""The expectations of a corpus without blanks: characters count as words, so that the limits are meaningful."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from components.validate.checks import checks
from components.validate.corpus import read_corpus
from components.validate.drift import Reference, comparable
from components.validate.expectations import run_checks
from components.validate.measures import build_tables
from components.validate.report import write_report
from components.validate.results import Result, Validation
from components.validate.settings import ValidateSettings
from components.validate.statistics import text_statistics, word_shares
from tests.texts.corpora import wikitext, without_blanks, write

FACTS = {"name": "own", "model_name": "wikigpt-own", "dataset_digest": "d" * 64, "published": False}


@pytest.fixture
def validated(tmp_path):
    """The corpus, and the results of its expectations by split and name."""

    def validate(texts, reference=None):
        corpus = read_corpus(write(tmp_path / "corpus", texts), FACTS)
        settings = ValidateSettings()
        found = run_checks(checks(corpus, settings, reference), build_tables(corpus, settings, reference))
        return corpus, {(each.split, each.name): each for each in found}

    return validate


def failed(results: dict[tuple[str, str], Result]) -> set[tuple[str, str]]:
    return {key for key, result in results.items() if not result.success}


def chinese(**sizes) -> dict[str, str]:
    return without_blanks(**sizes)


@pytest.mark.slow
def test_characters_count_as_words(validated):
    corpus, results = validated(chinese())
    assert corpus.unit == "byte"
    split = corpus.splits["test"]
    text = split.path.read_text(encoding="utf-8").replace("\n", "")
    assert split.words.total == len(text)
    counts = dict(zip(corpus.vocabulary, split.words.counts.tolist(), strict=False))
    assert {character: count for character, count in counts.items() if count} == Counter(text)
    assert split.articles.words == [len(text)]
    assert failed(results) == set()
    assert results["train", "enough characters"].seen.endswith(" characters")


def test_a_short_text_has_too_few_of_them(validated):
    _, results = validated(chinese(lines=(15, 5, 1)))
    assert failed(results) >= {("train", "enough characters"), ("test", "enough characters")}


def test_a_text_of_one_line_is_long_enough(validated):
    texts = {split: text.replace("\n", "") for split, text in chinese().items()}
    _, results = validated(texts)
    assert failed(results) == {("train", "no endless line")}, "a warning"


def test_lines_of_train_in_another_split_are_found(validated):
    """By words, none of them would be long enough to be examined."""
    texts = chinese()
    lines = texts["train"].splitlines(keepends=True)
    _, results = validated(texts | {"test": texts["test"] + "".join(lines[:20])})
    assert failed(results) == {("test", "few lines in two splits")}


@pytest.mark.slow
def test_a_copy_with_changes_is_found(validated):
    texts, draw = chinese(), random.Random(1)
    copied = "".join(sign if draw.random() > 0.02 else "改" for sign in texts["train"][:8000])
    _, results = validated(texts | {"test": copied})
    assert ("test", "no article half in another split") in failed(results)
    assert results["test", "no article half in another split"].severity == "error"


@pytest.mark.slow
def test_another_text_of_the_language_is_no_drift_and_another_language_is(validated):
    corpus, _ = validated(chinese())
    reference = Reference("3", "c" * 64, text_statistics(corpus), word_shares(corpus), corpus.unit)
    _, results = validated(without_blanks(seed=5, length=(51, 69)), reference)
    assert ("train", "the language of the champion's corpus") not in failed(results)
    other = {split: "".join(chr(ord(sign) + 5000) if sign > "\u4dff" else sign for sign in text)
             for split, text in chinese().items()}  # fmt: skip
    _, results = validated(other, reference)
    assert ("train", "the language of the champion's corpus") in failed(results)


def test_what_was_measured_in_words_is_not_compared(capsys):
    reference = Reference("3", "c" * 64, {}, {}, "word")
    assert comparable(reference, "byte") is None
    assert "drift is not checked" in capsys.readouterr().out
    assert comparable(reference, "word") is reference
    assert comparable(None, "byte") is None


@pytest.mark.slow
def test_the_report_speaks_of_characters_and_is_short(validated, tmp_path):
    corpus, results = validated(chinese(lines=(300, 50, 50), length=(300, 400)))
    settings = ValidateSettings()
    validation = Validation(
        corpus=FACTS | {"changes": ["a byte-order mark was removed from train"]},
        settings=vars(settings),
        expectations=tuple(results.values()),
        statistics=text_statistics(corpus),
        frequent_words=word_shares(corpus),
        champion=None,
        unit=corpus.unit,
    )
    page = write_report(corpus, build_tables(corpus, settings), validation)
    assert "distinct characters" in page and "runs of 16 characters" in page and "words" not in page.split("<svg")[0]
    assert "a byte-order mark was removed from train" in page
    longest = max(page.split("<blockquote>")[1:], key=len).partition("</blockquote>")[0]
    assert len(longest) < 900
    assert Validation.from_json(validation.to_json()).unit == "byte"


def test_words_count_where_there_are_words(validated):
    corpus, results = validated(wikitext())
    assert corpus.unit == "word"
    assert ("train", "enough words") in results
