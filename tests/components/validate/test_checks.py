"""The expectations that a corpus must meet."""

from dataclasses import fields

import pytest

from components.shared.base.failure import Failure
from components.validate.checks import checks
from components.validate.drift import Reference
from components.validate.settings import ValidateSettings
from tests.components.validate.texts import good, line, read, write

REFERENCE = Reference("3", "c" * 64, {"size in words": 100.0, "unk rate": 0.0}, {"a": 1.0})
# Fields that are not limits: they define what is counted.
DEFINITIONS = {"min_article_words", "near_duplicate"}


def names(corpus, split, reference=None):
    return {check.name for check in checks(corpus, ValidateSettings(), reference) if check.split == split}


def test_every_setting_moves_an_expectation(tmp_path):
    used = {check.setting for check in checks(read(tmp_path, good()), ValidateSettings(), REFERENCE)}
    assert used - {""} == {field.name for field in fields(ValidateSettings)} - DEFINITIONS


def test_no_two_expectations_of_a_split_share_a_name(tmp_path):
    found = [(each.split, each.name) for each in checks(read(tmp_path, good()), ValidateSettings(), REFERENCE)]
    assert len(found) == len(set(found))


def test_train_is_not_compared_with_itself(tmp_path):
    corpus = read(tmp_path, good())
    assert "no article in two splits" not in names(corpus, "train")
    assert "no article in two splits" in names(corpus, "validation") & names(corpus, "test")


def test_headings_are_looked_at_only_where_there_are_titles(tmp_path):
    plain = read(tmp_path / "plain", {split: line(1) for split in good()})
    assert "every article has a title" in names(read(tmp_path, good()), "test")
    assert "every article has a title" not in names(plain, "test")


def test_an_empty_split_is_checked_only_for_its_counts(tmp_path):
    corpus = read(tmp_path, good() | {"test": " \n"})
    assert names(corpus, "test") == {"the columns of lines", "the columns of articles", "enough words"}


@pytest.mark.parametrize("name", ["wikitext-2-v1", "wikitext-2-raw-v1"])
def test_published_corpora_are_held_to_their_counts(tmp_path, name):
    found = checks(read(tmp_path, good(), name=name), ValidateSettings(), None)
    exact = {(each.split, each.name): (each.low, each.high) for each in found if each.name.endswith("as published")}
    assert len(exact) == 9
    assert exact["train", "lines as published"] == (36_718, 36_718)
    assert exact["test", "words as published"] == (241_211, 241_211)
    assert not any(each.name == "enough words" for each in found)


def test_drift_is_measured_only_against_another_corpus(tmp_path):
    corpus = read(tmp_path, good())
    drift = {each.name: each for each in checks(corpus, ValidateSettings(), REFERENCE) if each.table == "statistics"}
    assert not any(each.table == "statistics" for each in checks(corpus, ValidateSettings(), None))
    size = drift["size in words like the champion's corpus"]
    assert drift["unk rate like the champion's corpus"].severity == "warning"
    assert (size.low, size.high) == (75.0, 125.0)
    assert drift["the language of the champion's corpus"].severity == "error"


def test_a_missing_split_is_named(tmp_path):
    from components.validate.corpus import read_corpus

    folder = write(tmp_path, {"train": "a\n", "test": "b\n"})
    with pytest.raises(Failure, match=r"every split is there.*no validation"):
        read_corpus(folder, {})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [({"max_overlap": 1.5}, "max_overlap must be from 0 to 1, got 1.5"),
     ({"min_train_words": -1}, "min_train_words must be from 0 to")],
)  # fmt: skip
def test_settings_out_of_range_are_refused(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        ValidateSettings(**values)
