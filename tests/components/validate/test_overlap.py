"""Overlap finds copies, also edited ones, and names their originals."""

import pytest

from tests.components.validate.texts import article, good, read


def measured(folder, **texts):
    return {name: split.overlaps for name, split in read(folder, good() | texts).splits.items()}


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


def test_pieces_of_a_text_give_the_same_overlap(tmp_path, monkeypatch):
    texts = {"train": "".join(map(article, range(5))), "test": article(3) + article(201)}
    whole = measured(tmp_path, **texts)
    monkeypatch.setattr("components.shared.text.articles.read_pieces.__defaults__", (50,))
    assert measured(tmp_path, **texts) == whole
    assert whole["test"][0].twin == ("train", "Title 3")


def test_a_run_is_attributed_to_the_first_article_that_contains_it(tmp_path):
    found = measured(tmp_path, train=article(5) + article(5, title="Later"), test=article(5, title="Test"))
    assert found["test"][0].twin == ("train", "Title 5")
