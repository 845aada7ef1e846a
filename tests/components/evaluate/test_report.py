"""The report: self-contained, escaped, and with what a person needs to decide."""

from __future__ import annotations

import math
import re
from copy import deepcopy
from html.parser import HTMLParser
from typing import Any

import pytest

from components.evaluate.report import evaluation_page

CORPUS = {
    "name": "wikitext-2-v1",
    "model_name": "wikigpt-wikitext-2-v1",
    "licence": "CC BY-SA 3.0",
    "attribution": "Merity et al. 2016",
}
MODEL = {"parameters": 5_300_000, "tokens_seen": 4_000_000, "train_seconds": 600.0, "best_step": 90}
HISTORY = [{"step": step, "loss": 9 - step / 20} for step in range(0, 100, 10)] + [
    {"step": 50, "validation_loss": 7.0, "validation_perplexity": 1096.6},
    {"step": 90, "validation_loss": 5.0, "validation_perplexity": 148.4},
]


def score(nats_per_word: float) -> dict[str, Any]:
    articles = [
        {
            "title": f"Article {number:02}",
            "nll": (nats_per_word + number / 20) * 100,
            "words": 100,
            "bytes": 450,
            "tokens": 130,
        }
        for number in range(20)
    ]
    nll = sum(each["nll"] for each in articles)
    return {
        "nll": nll, "tokens": 2600, "scored_tokens": 2600, "words": 2000, "bytes": 9000, "window": 64, "stride": 64,
        "token_perplexity": math.exp(nll / 2600), "word_perplexity": math.exp(nll / 2000), "bos": 0,
        "bits_per_byte": nll / math.log(2) / 9000, "text_sha256": "a" * 64, "dtype": "float32",
        "unit": "word", "cut": "articles", "articles": articles,
    }  # fmt: skip


@pytest.fixture(scope="module")
def evaluation() -> dict[str, Any]:
    variety = {"distinct_1": 0.4, "distinct_2": 0.8, "repetition": 0.1}
    return {
        "protocols": {"wikitext-word": {"validation": score(5.0), "test": score(4.9)}},
        "weights_digest": "w" * 64,
        "tokenizer_digest": "t",
        "bleu": {
            "bleu": 1.5, "signature": "nrefs:1", "prompts": 4, "decoding": "greedy", **variety, "reference": variety
        },
        "samples": [
            {
                "title": "A & B",
                "prompt": " The <unk>",
                "continuation": " cost $5 & more",
                "greedy": " is",
                "reference": " was",
            }
        ],
        "baselines": {"unigram": {"validation": 900.0, "test": 950.0, "types": 33_278},
                      "byte_unigram": {"validation": 4.6, "test": 4.7}},
        "verdict": {"word": "keep", "reason": "Worse: by 0.1.", "difference": 0.1, "interval": [0.05, 0.15],
                    "alias": "challenger", "unit": "word"},
        "champion": {"version": "7", "weights_digest": "c" * 64, "origin": "as published", "tokenizer_digest": "t",
                     "test_word_perplexity": 199.5, "test_bits_per_byte": 1.7,
                     "protocols": {"wikitext-word": {"validation": score(4.9)}}},
    }  # fmt: skip


@pytest.fixture(scope="module")
def html(evaluation) -> str:
    return evaluation_page(evaluation, CORPUS, MODEL, HISTORY)


class Addresses(HTMLParser):
    """Collects what a browser would load, and scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loaded += [tag] if tag in ("script", "link", "iframe") else []
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]


def test_nothing_is_loaded_from_elsewhere(html):
    found = Addresses()
    found.feed(html)
    assert [each for each in found.loaded if not each.startswith(("#", "data:"))] == []
    assert "prefers-color-scheme: dark" in html
    assert "url(http" not in html


def test_it_compares_the_model_with_the_baselines(html):
    for text in ("champion, version 7", "unigram", "AWD-LSTM", "arXiv:1708.02182", "Worse: by 0.1.", "199.5", "950"):
        assert text in html, text
    assert html.count("<svg ") == 4  # ladder, difference to the champion, training, articles


def test_the_hardest_and_easiest_articles_are_named(html):
    tables = re.findall(r"<caption>(The hardest|The easiest)</caption>.*?<tbody>(.*?)</tbody>", html, re.DOTALL)
    named = {caption: re.findall(r"Article \d\d", body) for caption, body in tables}
    assert named["The hardest"] == [f"Article {number}" for number in (19, 18, 17, 16, 15)]
    assert named["The easiest"] == [f"Article 0{number}" for number in range(5)]


def test_text_of_the_corpus_and_the_model_is_escaped(evaluation, html):
    assert "The &lt;unk&gt;</b> cost $5 &amp; more" in html
    assert "<unk>" not in html
    hostile = deepcopy(evaluation)
    hostile["protocols"]["wikitext-word"]["test"]["articles"][0]["title"] = "<script>alert(1)</script> $x_1$"
    assert "<script" not in evaluation_page(hostile, CORPUS, MODEL, HISTORY)


def test_results_on_another_text_are_marked(evaluation):
    html = evaluation_page(evaluation, CORPUS | {"name": "wikitext-2-raw-v1"}, MODEL, HISTORY)
    assert "so not the same text" in html
    assert "GPT-2 124M, stride 1024" in html
    assert "AWD-LSTM" not in evaluation_page(evaluation, CORPUS | {"name": "sample"}, MODEL, HISTORY)


def test_a_training_loss_that_is_not_over_the_vocabulary_says_so(evaluation, html):
    assert "sampled softmax" not in html
    assert "Training loss is a sampled softmax with 1,536 candidates" in evaluation_page(
        evaluation, CORPUS, MODEL | {"candidates": 1536}, HISTORY
    )


def test_it_can_be_written_for_every_kind_of_outcome(evaluation):
    first = deepcopy(evaluation) | {"champion": None, "bleu": {}, "samples": []}
    first["verdict"] |= {"word": "promote", "difference": None, "interval": None}
    assert "promote" in evaluation_page(first, CORPUS, MODEL, [])
    alone = deepcopy(evaluation)
    alone["champion"] |= {"protocols": {}, "test_word_perplexity": None}
    alone["verdict"] |= {"word": "incomparable", "difference": None, "interval": None}
    assert "incomparable" in evaluation_page(alone, CORPUS, MODEL, HISTORY)
    broken = deepcopy(first)
    for each in broken["protocols"]["wikitext-word"].values():
        each |= dict.fromkeys(("nll", "word_perplexity", "token_perplexity", "bits_per_byte"), math.nan)
    broken["verdict"]["word"] = "invalid"
    assert re.search(r"Word perplexity, test</dt>\s*<dd>nan</dd>", evaluation_page(broken, CORPUS, MODEL, HISTORY))
