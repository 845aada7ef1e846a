"""Prompts, BLEU and variety."""

from __future__ import annotations

import pytest
import sacrebleu

from components.evaluate.continuations import Continuation, choose_prompts, first_words, generation_metrics, variety


def continuation(made: str, reference: str) -> Continuation:
    return Continuation("title", "prompt", reference, made, "")


def test_prompts_come_from_paragraphs_of_articles_spread_over_the_split(texts):
    prompts = choose_prompts(texts["test"], 7, 12, 8)
    assert [prompt.title for prompt in prompts] == [f"Title {number} of 3" for number in range(0, 14, 2)]
    for prompt in prompts:
        assert (len(prompt.text.split()), len(prompt.reference.split())) == (12, 8)
        assert prompt.text + prompt.reference in texts["test"]
        assert not prompt.text.strip().startswith("=")


def test_prompts_are_as_many_as_there_are_long_enough_paragraphs(texts):
    assert len(choose_prompts(texts["test"], 100, 12, 8)) == 14
    assert choose_prompts(texts["test"], 5, 1000, 8) == []
    assert choose_prompts(texts["test"], 0, 12, 8) == []


def test_bleu_is_that_of_sacrebleu_with_its_signature():
    made = ["the castle was built in a valley", "snow came early this year again"]
    reference = ["the castle was built on a hill", "snow came late this year again"]
    found = generation_metrics([continuation(*pair) for pair in zip(made, reference, strict=True)])
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(made, [reference]).score)
    assert found["signature"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert generation_metrics([continuation(text, text) for text in reference])["bleu"] == pytest.approx(100)


def test_variety_counts_different_ngrams_and_repeated_fourgrams():
    found = variety(["a b a b", "a c"])
    assert found["distinct_1"] == pytest.approx(3 / 6)
    assert found["distinct_2"] == pytest.approx(3 / 4)
    assert variety(["a b c d a b c d"])["repetition"] == pytest.approx(1 / 5)
    assert variety(["one two three four five"])["repetition"] == 0
    assert variety([""]) == {"distinct_1": 1.0, "distinct_2": 1.0, "repetition": 0.0}


def test_first_words_keep_white_space():
    assert first_words(" a  b \n c d", 3) == " a  b \n c"
    assert first_words(" a ", 3) == " a "
