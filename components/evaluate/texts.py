"""Protocols of perplexity: the strings of a split that are scored, their context, and the divisor of the sum."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from components.shared.text.articles import Article, count_words, split_articles, split_lines
from components.shared.text.units import Unit, unit_of

Cut = Literal["articles", "lines", "blocks", "documents", "whole"]

# A bootstrap over fewer articles is unreliable, so a text with fewer articles is cut into pieces instead.
_FEW_ARTICLES = 10
_PIECES = 40
# If one piece of whole lines is a larger share of the text, that piece decides the interval.
_LARGEST_SHARE = 0.25
_SMALLEST_BLOCK = 20  # characters
_BLANK = re.compile(r"\s")


@dataclass(frozen=True)
class Piece:
    """The unit of the report by article, and of the paired comparison in the gate.

    Attributes:
        title: the title of the article, or the range of lines or characters.
        words: the number of words, as the protocol counts them.
        bytes: the number of bytes of the original text.
    """

    title: str
    words: int
    bytes: int


@dataclass(frozen=True)
class Document(Piece):
    """A piece that is encoded separately.

    Attributes:
        parts: the strings of the piece, each of which is encoded separately.
    """

    parts: tuple[str, ...]


@dataclass(frozen=True)
class Block(Piece):
    """A piece that may begin and end within a line, although each line is encoded as a whole.

    Attributes:
        start: the offset of its first character in the text; a token belongs to the block in which it begins.
    """

    start: int


@dataclass(frozen=True)
class ProtocolText:
    """A split as a protocol reads it.

    Attributes:
        documents: the documents in the order of the text.
        joined: whether the documents form one sequence of tokens, so that context reaches across them.
        bos: whether an end-of-text token precedes each sequence; `trained`: if the model was trained with it.
        rolling: whether windows share a token, see `Scorer.score`.
        bytes: the number of bytes by which bits per byte are divided.
        words: the number of words by which word perplexity is divided; None if the protocol does not count words.
        strides: whether the stride of the settings applies; the harness has only whole windows.
        cut: the kind of the pieces.
        blocks: the pieces, if they are blocks of the only document.
    """

    documents: tuple[Document, ...]
    joined: bool
    bos: str
    rolling: bool
    bytes: int
    words: int | None
    strides: bool = True
    cut: Cut = "documents"
    blocks: tuple[Block, ...] = ()

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return self.blocks or self.documents

    @property
    def unit(self) -> Unit:
        """The unit of the measures."""
        return unit_of(self.words or 0, self.bytes)


def wikitext_word(text: str) -> ProtocolText:
    """Scores the released text as one sequence, per word and one eos per line, like the AWD-LSTM family.

    Lines are encoded separately, as in training.
    """
    cut, units = cut_text(text)
    documents = tuple(_document(unit.title, unit.text) for unit in units)
    blocks = tuple(_blocks(units)) if cut == "blocks" else ()
    return ProtocolText(
        (_document("", text),) if blocks else documents,
        joined=True,
        bos="trained",
        rolling=True,
        bytes=len(text.encode()),
        words=count_words(text),
        cut=cut,
        blocks=blocks,
    )


def hf_doc(text: str) -> ProtocolText:
    """Scores the rows of the Hub's dataset, joined by two newlines, as the Hugging Face documentation scores GPT-2.

    Source: https://huggingface.co/docs/transformers/perplexity. On the Hub an empty line is an empty row.
    """
    rows = [line if line.strip() else "" for line in split_lines(text)]
    size = len(text.encode())
    document = Document("", 0, size, ("\n\n".join(rows),))
    return ProtocolText((document,), joined=True, bos="never", rolling=False, bytes=size, words=None, cut="whole")


def lm_eval(text: str) -> ProtocolText:
    """Scores each detokenised document separately, per word of the original, like the task `wikitext` of lm-eval.

    Source: EleutherAI/lm-evaluation-harness, lm_eval/tasks/wikitext, and the dataset that it reads.
    """
    pages = list(harness_documents(text))
    documents = tuple(
        Document(_first_line(page), len(re.split(r"\s+", page)), len(page.encode()), (detokenise(page),))
        for page in pages
    )
    return ProtocolText(
        documents,
        joined=False,
        bos="always",
        rolling=True,
        bytes=sum(len(page.encode()) for page in pages),
        words=sum(document.words for document in documents),
        strides=False,
    )


PROTOCOLS: dict[str, Callable[[str], ProtocolText]] = {
    "wikitext-word": wikitext_word,
    "hf-doc": hf_doc,
    "lm-eval": lm_eval,
}


def scored_units(text: str) -> list[Article]:
    """Returns the articles, or pieces of about equal length for a text with few articles."""
    return cut_text(text)[1]


def cut_text(text: str) -> tuple[Cut, list[Article]]:
    """Cuts a text into the pieces that the gate compares, and names their kind. The result depends only on the text.

    The pieces are articles if there are enough, else groups of whole lines. If there are few lines, or one line is
    most of the text, they are blocks that end within lines.
    """
    articles = split_articles(text)
    if len(articles) >= _FEW_ARTICLES:
        return "articles", articles
    of_lines, of_blocks = _of_lines(text), _of_blocks(text)
    largest = max((len(piece.text) for piece in of_lines), default=0)
    enough = len(of_lines) >= _FEW_ARTICLES and largest <= _LARGEST_SHARE * len(text)
    if not enough and len(of_blocks) > min(len(of_lines), _FEW_ARTICLES):
        return "blocks", of_blocks
    return "lines", of_lines or [Article("", text)]


def _of_lines(text: str) -> list[Article]:
    lines = split_lines(text)
    pieces = min(_PIECES, len(lines))
    bounds = [round(index * len(lines) / max(pieces, 1)) for index in range(pieces + 1)]
    return [
        Article(title=f"lines {start + 1} to {end}", text="".join(lines[start:end])) for start, end in pairwise(bounds)
    ]


def _of_blocks(text: str) -> list[Article]:
    """Cuts blocks of about equal length, before white space if it is near, else between two characters."""
    count = min(_PIECES, len(text) // _SMALLEST_BLOCK)
    length = len(text) / max(count, 1)
    bounds = [0]
    for index in range(1, count):
        near = _BLANK.search(text, max(round(index * length), bounds[-1] + 1), round((index + 0.5) * length))
        bounds.append(near.start() if near else max(round(index * length), bounds[-1] + 1))
    bounds.append(len(text))
    return [
        Article(title=f"characters {start + 1:,} to {end:,}", text=text[start:end]) for start, end in pairwise(bounds)
    ]


def _blocks(units: list[Article]) -> Iterator[Block]:
    """A word counts in the block in which it begins, so that the words of all blocks add up to those of the text."""
    start, inside = 0, False
    for index, unit in enumerate(units):
        last = index + 1 == len(units)
        words = len(unit.text.split()) - (inside and not unit.text[:1].isspace())
        lines = unit.text.count("\n") + (last and not unit.text.endswith("\n"))
        yield Block(unit.title, words + lines, len(unit.text.encode()), start)
        start, inside = start + len(unit.text), not unit.text[-1:].isspace()


def _document(title: str, text: str) -> Document:
    return Document(title, count_words(text), len(text.encode()), tuple(split_lines(text)))


def harness_documents(text: str) -> Iterator[str]:
    """Splits a text by the rule of the harness's dataset: every line like `= title =` begins a document.

    Two data lines in the test split of WikiText-2 look like that, so its 60 articles become 62 documents.
    """
    page: list[str] = []
    for line in text.split("\n"):
        shape = line.replace("= = =", "===").replace("= =", "==").strip()
        if shape.startswith("= ") and shape.endswith(" ="):
            if any(part.strip() for part in page):
                yield "\n".join(page)
            page = []
        page.append(line)
    yield "\n".join(page)


# The order and the patterns are those of the harness. Its second pattern never matches, and its quotes pair greedily.
_DETOKENISER: tuple[tuple[str, str, bool], ...] = (
    ("s '", "s'", False),
    (r"/' [0-9]/", r"/'[0-9]/", True),
    (" @-@ ", "-", False),
    (" @,@ ", ",", False),
    (" @.@ ", ".", False),
    (" : ", ": ", False),
    (" ; ", "; ", False),
    (" . ", ". ", False),
    (" ! ", "! ", False),
    (" ? ", "? ", False),
    (" , ", ", ", False),
    (r"\(\s*([^\)]*?)\s*\)", r"(\1)", True),
    (r"\[\s*([^\]]*?)\s*\]", r"[\1]", True),
    (r"{\s*([^}]*?)\s*}", r"{\1}", True),
    (r"\"\s*([^\"]*?)\s*\"", r'"\1"', True),
    (r"'\s*([^']*?)\s*'", r"'\1'", True),
    ("= = = =", "====", False),
    ("= = =", "===", False),
    ("= =", "==", False),
    (" ° ", "°", False),
    (" \n", "\n", False),
    ("\n ", "\n", False),
    (" N ", " 1 ", False),
    (" 's", "'s", False),
)


def detokenise(page: str) -> str:
    """Approximates the text before WikiText's tokenization with the rules of the harness."""
    for pattern, replacement, is_regex in _DETOKENISER:
        page = re.sub(pattern, replacement, page) if is_regex else page.replace(pattern, replacement)
    return page


def _first_line(page: str) -> str:
    return page.strip().partition("\n")[0].strip(" =")
