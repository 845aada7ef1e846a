"""The gate splits a text by its content alone, into blocks that together are the whole text."""

from __future__ import annotations

import random

import pytest

from components.evaluate.perplexity import score_text
from components.evaluate.scoring import Scorer
from components.evaluate.texts import Block, cut_text, wikitext_word
from components.shared.text.articles import count_words, split_articles
from tests.components.evaluate.conftest import model, texts, tokenizer, write_text  # noqa: F401
from tests.texts.corpora import wikitext, without_blanks

PROSE = wikitext()["validation"]
TEXTS = {
    "one line": PROSE.replace("\n", " "),
    "one line with an end": PROSE.replace("\n", " ") + "\n",
    "three lines": PROSE.replace("\n", " ", 100).replace("\n", " ", 20),
    "one line without blanks": without_blanks()["validation"].replace("\n", ""),
    "a line that is most of it": "short \n" * 30 + PROSE.replace("\n", " ") + "\n",
    "blanks alone": " \t" * 500,
    "many blanks": " ".join(["word  "] * 300),
    "emoji": "🏰🌊" * 400,
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_long_lines_are_cut_into_blocks(text):
    cut, pieces = cut_text(text)
    assert cut == "blocks"
    assert 20 <= len(pieces) <= 40
    assert "".join(piece.text for piece in pieces) == text
    lengths = [len(piece.text) for piece in pieces]
    assert max(lengths) <= 2 * len(text) / len(pieces)
    assert cut_text(text) == (cut, pieces)


def test_a_block_ends_before_a_blank_where_there_is_one():
    _, pieces = cut_text(TEXTS["one line"])
    assert all(piece.text[0] == " " and piece.text[-1] != " " for piece in pieces[1:-1])


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_words_and_bytes_of_the_blocks_are_those_of_the_text(text):
    plan = wikitext_word(text)
    assert all(isinstance(piece, Block) for piece in plan.pieces)
    assert sum(piece.words for piece in plan.pieces) == plan.words == count_words(text)
    assert sum(piece.bytes for piece in plan.pieces) == plan.bytes == len(text.encode())


def test_words_of_any_blocks_are_counted_once():
    draw = random.Random(3)
    for _ in range(200):
        text = "".join(draw.choices("ab \n\té语", k=draw.randint(800, 1200)))
        plan = wikitext_word(text)
        assert sum(piece.words for piece in plan.pieces) == count_words(text)


def test_a_text_with_enough_articles_or_lines_is_cut_as_before():
    """Versions that were scored by earlier code are compared article by article."""
    assert cut_text(PROSE) == ("articles", split_articles(PROSE))
    lines = "".join(f"line {number} of a team's own text\n" for number in range(1000))
    cut, pieces = cut_text(lines)
    assert (cut, len(pieces), pieces[1].title) == ("lines", 40, "lines 26 to 50")
    cut, pieces = cut_text(write_text(1, 3))
    assert (cut, len(pieces)) == ("lines", 24)


@pytest.mark.parametrize("text", ["", "word", "a few words \n"])
def test_a_text_that_is_too_short_is_not_cut(text):
    assert [piece.text for piece in cut_text(text)[1]] == [text]


@pytest.mark.parametrize("text", [TEXTS["one line"], TEXTS["one line without blanks"], TEXTS["three lines"]])
def test_blocks_share_the_score_of_the_whole_line(model, tokenizer, text):  # noqa: F811
    """A line is encoded and scored as a whole; each of its tokens counts in the block in which it begins."""
    text = text[:4000]
    score = score_text(text, "wikitext-word", Scorer(model, 64, 64), tokenizer, trained_bos=0)
    assert score.cut == "blocks"
    assert sum(piece.nll for piece in score.articles) == pytest.approx(score.nll, rel=1e-12)
    assert sum(piece.tokens for piece in score.articles) == score.scored_tokens == score.tokens
    encoded = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
    assert score.tokens == len(encoded.ids)
    starts = [start for start, _ in encoded.offsets]
    end = 0
    for piece, block in zip(score.articles, cut_text(text)[1], strict=True):
        begin, end = end, end + len(block.text)
        assert piece.tokens == sum(begin <= start < end for start in starts)


def test_blocks_of_whole_words_are_scored_like_the_words_alone(model, tokenizer):  # noqa: F811
    """If a block begins at a blank, its tokens are those of its own text."""
    text = TEXTS["one line"][:3000]
    score = score_text(text, "wikitext-word", Scorer(model, 64, 64), tokenizer, trained_bos=0)
    encode = tokenizer.backend_tokenizer.encode
    counts = [len(encode(block.text, add_special_tokens=False).ids) for block in cut_text(text)[1]]
    assert [piece.tokens for piece in score.articles] == counts
