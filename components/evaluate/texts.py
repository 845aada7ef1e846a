"""Protocols of perplexity: which strings of a split are scored, in which context, and what the sum is divided by."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from components.shared.text.articles import Article, count_words, split_articles, split_lines
from components.shared.text.units import Unit, unit_of

Cut = Literal["articles", "lines", "blocks", "documents", "whole"]

# With fewer articles than this a bootstrap over them says little, so a text is cut into pieces instead.
_FEW_ARTICLES = 10
_PIECES = 40
_LARGEST_SHARE = 0.25  # of a text in one piece of whole lines; with more, the interval is that of one piece
_SMALLEST_BLOCK = 20  # characters
_BLANK = re.compile(r"\s")


@dataclass(frozen=True)
class Piece:
    """What is reported, and paired in the gate.

    Attributes:
        title: of the article, or what it spans.
        words: by the protocol's way to count.
        bytes: of the original text.
    """

    title: str
    words: int
    bytes: int


@dataclass(frozen=True)
class Document(Piece):
    """A piece that is encoded by itself.

    Attributes:
        parts: the strings that are encoded, each by itself.
    """

    parts: tuple[str, ...]


@dataclass(frozen=True)
class Block(Piece):
    """A piece that may begin and end within a line, which is encoded as a whole.

    Attributes:
        start: where it begins, in characters of the text; a token belongs to the block in which it begins.
    """

    start: int


@dataclass(frozen=True)
class ProtocolText:
    """A split as a protocol reads it.

    Attributes:
        documents: in order.
        joined: whether they form one sequence of tokens, so that context reaches across them.
        bos: whether an end-of-text token precedes each sequence; `trained`: if the model was trained with it.
        rolling: see `Scorer.score`.
        bytes: of the text that bits per byte refer to.
        words: that word perplexity refers to; None if the protocol does not count words.
        strides: whether the settings' stride applies; the harness has only whole windows.
        cut: how the pieces were made.
        blocks: the pieces, where they are blocks of the only document.
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
        """What the measures refer to."""
        return unit_of(self.words or 0, self.bytes)


def wikitext_word(text: str) -> ProtocolText:
    """The text as released, one sequence, divided by words and one eos a line, as the AWD-LSTM family does.

    Lines are encoded one by one, which is how the model was trained to read them.
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
    """Rows of the Hub's dataset joined by two newlines, one string, as the Hugging Face documentation scores GPT-2.

    Source: https://huggingface.co/docs/transformers/perplexity. On the Hub a blank line is an empty row.
    """
    rows = [line if line.strip() else "" for line in split_lines(text)]
    size = len(text.encode())
    document = Document("", 0, size, ("\n\n".join(rows),))
    return ProtocolText((document,), joined=True, bos="never", rolling=False, bytes=size, words=None, cut="whole")


def lm_eval(text: str) -> ProtocolText:
    """Each document by itself, detokenised, divided by words of the original, as task `wikitext` of lm-eval does.

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
    """Articles; of a text with few or none, pieces of about equal length in their place."""
    return cut_text(text)[1]


def cut_text(text: str) -> tuple[Cut, list[Article]]:
    """The pieces of a text that are paired in the gate, and how it was cut; the text alone decides.

    Articles, where there are enough; else pieces of whole lines; where lines are few, or one of them is most of the
    text, blocks that end within lines.
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
    """Blocks of about equal length, cut before a blank where there is one near, else between two characters."""
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
    """A word that is cut counts where it begins, so that the words of all blocks are those of the text."""
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
    """Documents by the rule of the harness's dataset: every line that looks like `= title =` begins one.

    Two lines of data in WikiText-2's test split look like that, hence 62 documents where it has 60 articles.
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


# The harness's own order and patterns, oddities included: the second never matches, and the quotes pair greedily.
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
    """The text as it was before WikiText's tokenizer, as near as the harness gets."""
    for pattern, replacement, is_regex in _DETOKENISER:
        page = re.sub(pattern, replacement, page) if is_regex else page.replace(pattern, replacement)
    return page


def _first_line(page: str) -> str:
    return page.strip().partition("\n")[0].strip(" =")
