"""The unigram model and the references."""

from __future__ import annotations

import math

import pytest

from components.evaluate.baselines import REFERENCES, Unigram
from components.evaluate.texts import PROTOCOLS


def test_the_unigram_is_smoothed_by_one():
    unigram = Unigram.of(["a a b\n"])
    # Four words with the end of the line; types a, b, the end, and one for all that was never seen.
    nll = -math.log(3 / 8) - math.log(1 / 8) - math.log(2 / 8)
    assert unigram.perplexity("a z\n") == pytest.approx(math.exp(nll / 3))


def test_probabilities_sum_to_one():
    unigram = Unigram.of(["a a b c\n", "d a\n"])
    words = [*unigram.counts, "never seen"]
    total = sum((unigram.counts[word] + 1) / (unigram.total + len(unigram.counts) + 1) for word in words)
    assert total == pytest.approx(1)


def test_the_unigram_of_wikitext(real_data):
    train, test = (
        (real_data / "wikitext-2" / f"wiki.{split}.tokens").read_bytes().decode() for split in ("train", "test")
    )
    unigram = Unigram.of([train])
    assert (unigram.total, len(unigram.counts)) == (2_088_628, 33_278)
    assert 600 < unigram.perplexity(test) < 1200


def test_references_name_protocols_that_exist_and_their_source():
    for reference in REFERENCES:
        assert reference.protocol in PROTOCOLS
        assert reference.measure in ("word_perplexity", "token_perplexity")
        assert reference.source
