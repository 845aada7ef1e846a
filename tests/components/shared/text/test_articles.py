"""Lines, words and articles are counted as in WikiText's references."""

from itertools import pairwise

import pytest

from components.shared.text.articles import (
    article_blocks,
    count_lines,
    count_words,
    read_pieces,
    split_articles,
    split_lines,
)

TWO = " \n = One = \n \n text of one \n \n = = Section = = \n \n more \n \n = Two = \n \n text of two \n \n"


@pytest.mark.parametrize(
    ("split", "articles", "lines", "words"),
    [("train", 600, 36718, 2_088_628), ("valid", 60, 3760, 217_646), ("test", 60, 4358, 245_569)],
)
def test_wikitext_2_has_its_published_counts(real_data, split, articles, lines, words):
    text = (real_data / "wikitext-2" / f"wiki.{split}.tokens").read_text(encoding="utf-8")
    found = split_articles(text)
    assert len(found) == articles
    assert all(article.title for article in found)
    assert "".join(article.text for article in found) == text
    assert count_lines(text) == len(split_lines(text)) == lines
    assert count_words(text) == words


@pytest.mark.parametrize("split", ["valid", "test"])
def test_the_raw_release_has_the_same_articles(real_data, split):
    text = (real_data / "wikitext-2-raw" / f"wiki.{split}.raw").read_text(encoding="utf-8")
    assert len(split_articles(text)) == 60


def test_articles_follow_each_other_without_a_gap():
    first, second = split_articles(TWO)
    assert (first.title, second.title) == ("One", "Two")
    assert first.text + second.text == TWO
    assert first.text.endswith(" more \n \n")


def test_headings_of_sections_and_lines_of_data_are_not_titles():
    text = " = One = \n \n = = Part = = \n \n a = b = c \n = inside a paragraph = \n text \n"
    assert [article.title for article in split_articles(text)] == ["One"]


def test_text_before_the_first_title_is_an_article_without_one():
    untitled, one = split_articles("preface \n \n = One = \n \n text \n")
    assert (untitled.title, untitled.text) == ("", "preface \n \n")
    assert one.title == "One"


def test_a_text_without_titles_is_one_article():
    (only,) = split_articles("just\nlines\n")
    assert (only.title, only.text) == ("", "just\nlines\n")
    assert split_articles("") == []


@pytest.mark.parametrize("size", [1, 7, 30, 1000])
@pytest.mark.parametrize(
    "text",
    [TWO, f"preface\n{TWO}", f" \n{TWO}", "just\nlines", " = One = \n", " = One = \ntext \n \n = Two = ", "\n \n", ""],
)
def test_a_text_that_is_read_in_pieces_has_the_same_articles(tmp_path, text, size):
    path = tmp_path / "text"
    path.write_text(text)
    pieces = [piece.decode() for piece in read_pieces(path, size)]
    lines, articles = [], []
    for block in article_blocks(pieces):
        articles += [(len(lines) + index, title) for index, title in block.starts]
        lines += block.lines
    assert "".join(pieces) == "".join(lines) == text
    whole = split_articles(text)
    assert [title for _, title in articles] == [article.title for article in whole]
    bounds = [*(index for index, _ in articles), len(lines)]
    assert ["".join(lines[a:b]) for a, b in pairwise(bounds)] == [each.text for each in whole]


def test_only_a_newline_ends_a_line():
    text = "a\u2028b\x0bc\x1cd\u0085e\rf\r\ng"
    assert split_lines(text) == ["a\u2028b\x0bc\x1cd\u0085e\rf\r\n", "g"]


@pytest.mark.parametrize(("text", "lines", "words"), [("", 0, 0), ("a b", 1, 3), ("a b\n", 1, 3), ("\n \n", 2, 2)])
def test_every_line_end_counts_as_a_word(text, lines, words):
    assert count_lines(text) == lines
    assert count_words(text) == words
