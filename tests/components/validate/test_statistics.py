"""The numbers that describe a text, on texts where they can be counted by hand."""

import pytest

from components.validate.statistics import (
    distinct_words,
    divergence,
    text_statistics,
    unknown_rate,
    unseen_rate,
    word_shares,
)
from tests.components.validate.texts import good, read

TEXTS = {"train": " = A = \n \n one two <unk> one 42 \n", "validation": "one three three <unk>\n", "test": "five\n"}


@pytest.fixture
def corpus(tmp_path):
    return read(tmp_path, TEXTS)


def test_statistics_are_those_counted_by_hand(corpus):
    found = text_statistics(corpus)
    assert found == pytest.approx(
        {
            "size in words": 8,
            "words per line": 8 / 3,
            "words per article": 8,
            "characters per word": (1 + 1 + 1 + 3 + 3 + 5 + 3 + 2) / 8,
            "distinct words": 6 / 8,
            "unk rate": 1 / 8,
            "words with a digit": 1 / 8,
        }
    )


def test_rates_of_words_that_train_does_not_teach(corpus):
    assert [unseen_rate(corpus, split) for split in TEXTS] == [0, 0.5, 1]
    assert [unknown_rate(corpus, split) for split in TEXTS] == [1 / 8, 1 / 4, 0]


def test_the_vocabulary_grows_to_the_number_of_distinct_words(corpus):
    read_, distinct = distinct_words(corpus, "train", points=9)
    assert read_.tolist() == list(range(9))
    assert distinct.tolist() == [0, 1, 2, 2, 3, 4, 5, 5, 6]


def test_shares_add_up_and_the_rest_is_kept(corpus, tmp_path):
    shares = word_shares(corpus)
    assert shares["one"] == 2 / 8
    assert sum(shares.values()) == pytest.approx(1)
    many = read(tmp_path / "many", good() | {"train": " ".join(f"w{n}" for n in range(4_000))})
    assert word_shares(many)[""] == pytest.approx(0.5)


def test_an_empty_split_has_statistics_too(tmp_path):
    corpus = read(tmp_path, TEXTS | {"train": ""})
    assert set(text_statistics(corpus).values()) == {0.0}
    assert unseen_rate(corpus, "train") == unknown_rate(corpus, "train") == 0


def test_divergence_runs_from_nought_to_one():
    ours, theirs = {"a": 0.5, "b": 0.5}, {"c": 0.25, "d": 0.75}
    assert divergence(ours, ours) == 0
    assert divergence(ours, theirs) == pytest.approx(1)
    half = {"a": 0.5, "c": 0.5}
    assert divergence(ours, half) == divergence(half, ours) == pytest.approx(0.5)
