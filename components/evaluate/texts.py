"""Protocols of perplexity: which strings of a split are scored, in which context, and what the sum is divided by."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from components.shared.articles import Article, count_words, split_articles, split_lines

# With fewer articles than this a bootstrap over them says little, so a text is cut into pieces instead.
_FEW_ARTICLES = 10
_PIECES = 40


@dataclass(frozen=True)
class Document:
    """A unit that is reported, and paired in the gate.

    Attributes:
        title: of the article, or the lines that it spans.
        parts: the strings that are encoded, each by itself.
        words: by the protocol's way to count.
    """

    title: str
    parts: tuple[str, ...]
    words: int


@dataclass(frozen=True)
class ProtocolText:
    """A split as a protocol reads it.

    Attributes:
        documents: in order.
        joined: whether they form one sequence of tokens, so that context reaches across them.
        bos: whether an end-of-text token stands before each sequence: `trained` where the model knows it there.
        rolling: see `Scorer.score`.
        bytes: of the text that bits per byte refer to.
        words: that word perplexity refers to; None where the protocol knows none.
        strides: whether the settings' stride applies; the harness knows only whole windows.
    """

    documents: tuple[Document, ...]
    joined: bool
    bos: str
    rolling: bool
    bytes: int
    words: int | None
    strides: bool = True


def wikitext_word(text: str) -> ProtocolText:
    """The text as released, one sequence, divided by words and one eos a line, as the AWD-LSTM family does.

    Lines are encoded one by one, which is how the model was trained to read them.
    """
    units = scored_units(text)
    documents = tuple(Document(unit.title, tuple(split_lines(unit.text)), count_words(unit.text)) for unit in units)
    return ProtocolText(
        documents,
        joined=True,
        bos="trained",
        rolling=True,
        bytes=len(text.encode()),
        words=sum(document.words for document in documents),
    )


def hf_doc(text: str) -> ProtocolText:
    """Rows of the Hub's dataset joined by two newlines, one string, as the Hugging Face documentation scores GPT-2.

    Source: https://huggingface.co/docs/transformers/perplexity. On the Hub a blank line is an empty row.
    """
    rows = [line if line.strip() else "" for line in split_lines(text)]
    document = Document("", ("\n\n".join(rows),), 0)
    return ProtocolText((document,), joined=True, bos="never", rolling=False, bytes=len(text.encode()), words=None)


def lm_eval(text: str) -> ProtocolText:
    """Each document by itself, detokenised, divided by words of the original, as task `wikitext` of lm-eval does.

    Source: EleutherAI/lm-evaluation-harness, lm_eval/tasks/wikitext, and the dataset that it reads.
    """
    pages = list(harness_documents(text))
    documents = tuple(Document(_first_line(page), (detokenise(page),), len(re.split(r"\s+", page))) for page in pages)
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
    """Articles; of a text with few or none, pieces of whole lines and about equal length in their place."""
    articles = split_articles(text)
    if len(articles) >= _FEW_ARTICLES:
        return articles
    lines = split_lines(text)
    pieces = min(_PIECES, len(lines))
    bounds = [round(index * len(lines) / max(pieces, 1)) for index in range(pieces + 1)]
    cut = [
        Article(title=f"lines {start + 1} to {end}", text="".join(lines[start:end])) for start, end in pairwise(bounds)
    ]
    return cut or [Article("", text)]


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
