"""Overlap finds copies, also edited ones, and names their originals."""

import numpy as np
import pytest

from components.validate.overlap import overlaps
from tests.components.validate.texts import article, good, read


def measured(folder, **texts):
    return overlaps(list(read(folder, good() | texts).splits.values()))


def test_different_articles_have_no_overlap(tmp_path):
    found = measured(tmp_path)
    assert [len(found[split]) for split in ("train", "validation", "test")] == [12, 3, 3]
    assert all(each.share == 0 and each.twin is None for split in found.values() for each in split)


def test_a_copy_is_found_whole_and_its_twin_is_named(tmp_path):
    found = measured(tmp_path, test=article(200) + article(5, title="Another name"))
    assert found["test"][0].share == 0
    assert found["test"][1].share > 0.95
    assert found["test"][1].twin == ("train", "Title 5")


def test_the_duplicate_may_be_in_validation(tmp_path):
    found = measured(tmp_path, test=article(101) + article(200))
    assert (found["test"][0].share, found["test"][0].twin) == (1.0, ("validation", "Title 101"))


@pytest.mark.parametrize(("every", "least", "most"), [(40, 0.7, 0.95), (20, 0.45, 0.75), (4, 0.0, 0.0)])
def test_the_share_falls_with_the_words_that_were_changed(tmp_path, every, least, most):
    words = article(5, lines=40).split(" ")
    edited = [f"x{number}" if number > 12 and number % every == 0 and word.isalpha() else word
              for number, word in enumerate(words)]  # fmt: skip
    found = measured(tmp_path, train=article(5, lines=40), test=" ".join(edited))
    assert least <= found["test"][0].share <= max(most, 0.02)


def test_a_run_that_spans_two_articles_does_not_count(tmp_path):
    first, second = " = A = \n \n a b c d \n", " \n = B = \n \n e f g h \n"
    alone = measured(tmp_path / "1", train=first + second, test=" \n a b c d \n \n = B = \n \n e f g h \n")
    assert max(each.share for each in alone["test"]) == 0


def test_an_empty_split_has_no_articles_to_compare(tmp_path):
    found = measured(tmp_path, validation="")
    assert found["validation"] == []
    assert all(each.share == 0 for each in found["test"])


def test_every_split_uses_the_same_word_ids(tmp_path):
    corpus = read(tmp_path, {"train": "a b\n", "validation": "b c\n", "test": "c a\n"})
    assert corpus.vocabulary == ["a", "b", "c"]
    assert [split.words.tolist() for split in corpus.splits.values()] == [[0, 1], [1, 2], [2, 0]]
    assert all(split.words.dtype == np.int64 for split in corpus.splits.values())
