"""The sample corpus: the same bytes everywhere, in WikiText's format, with disjoint splits."""

import hashlib

import pytest

from components.download.corpora import dataset_digest
from components.download.sample import sample_corpus
from components.shared.storage.files import FileFact
from components.shared.text.articles import split_articles
from tests.sample_corpus.generator import ARTICLES, Rng, generate

GRAM = 13


@pytest.fixture(scope="module")
def corpus() -> dict[str, str]:
    return {split: text.decode() for split, text in sample_corpus().items()}


def test_its_bytes_are_these(corpus):
    facts = {
        split: FileFact(len(text.encode()), hashlib.sha256(text.encode()).hexdigest()) for split, text in corpus.items()
    }
    assert dataset_digest(facts) == "c0bbc344eb2db260d8f3b79e59ffe054bf369477a2f87d3809905f9318cce1dc"


def test_the_generator_makes_exactly_the_bytes_that_are_shipped():
    assert generate() == sample_corpus()


def test_its_size_is_that_of_a_quick_run(corpus):
    assert 500_000 < sum(map(len, corpus.values())) < 1_000_000


def test_articles_are_found_by_their_titles(corpus):
    articles = {split: split_articles(text) for split, text in corpus.items()}
    assert {split: len(found) for split, found in articles.items()} == ARTICLES
    titles = [article.title for found in articles.values() for article in found]
    assert all(titles)
    assert len(set(titles)) == len(titles)


def test_it_has_what_wikitext_has(corpus):
    for text in corpus.values():
        assert all(mark in text for mark in (" @-@ ", " @,@ ", " @.@ ", "<unk>", " = = ", "\n \n"))
        assert all(line.startswith(" ") and line.endswith(" ") for line in text.splitlines())
        assert "{" not in text


def test_no_paragraph_occurs_twice(corpus):
    paragraphs = [line for text in corpus.values() for line in text.splitlines() if len(line) > 80]
    assert len(set(paragraphs)) == len(paragraphs)


def test_no_held_out_article_is_a_near_duplicate_of_a_training_article(corpus):
    seen = [_grams(article.text) for article in split_articles(corpus["train"])]
    for split in ("validation", "test"):
        for article in split_articles(corpus[split]):
            grams = _grams(article.text)
            assert max(len(grams & other) / len(grams) for other in seen) < 0.1


def test_random_numbers_are_those_of_splitmix64():
    rng = Rng(state=1234567)
    drawn = [rng.randbelow(1 << 64) for _ in range(3)]
    assert drawn == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def _grams(text: str) -> set[tuple[str, ...]]:
    words = text.split()
    return {tuple(words[start : start + GRAM]) for start in range(len(words) - GRAM + 1)}
