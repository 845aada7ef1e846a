"""Lines, words and articles are counted as in WikiText's references."""

import pytest

from components.shared.text.articles import count_lines, count_words, split_articles, split_lines

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


def test_only_a_newline_ends_a_line():
    text = "a\u2028b\x0bc\x1cd\u0085e\rf\r\ng"
    assert split_lines(text) == ["a\u2028b\x0bc\x1cd\u0085e\rf\r\n", "g"]


@pytest.mark.parametrize(("text", "lines", "words"), [("", 0, 0), ("a b", 1, 3), ("a b\n", 1, 3), ("\n \n", 2, 2)])
def test_every_line_end_counts_as_a_word(text, lines, words):
    assert count_lines(text) == lines
    assert count_words(text) == words
