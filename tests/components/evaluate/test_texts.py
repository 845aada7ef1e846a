"""The text and the divisor of each protocol."""

from __future__ import annotations

import shutil

import pytest
from transformers import AutoTokenizer

from components.evaluate.texts import detokenise, hf_doc, lm_eval, scored_units, wikitext_word
from components.shared.text.articles import split_articles
from tests.components.evaluate.conftest import write_text


@pytest.fixture(scope="module")
def raw_test(real_data) -> str:
    return (real_data / "wikitext-2-raw" / "wiki.test.raw").read_bytes().decode()


def test_wikitext_word_is_the_text_itself(texts):
    plan = wikitext_word(texts["test"])
    assert "".join(part for document in plan.documents for part in document.parts) == texts["test"]
    assert [document.title for document in plan.documents] == [each.title for each in split_articles(texts["test"])]
    assert plan.bytes == len(texts["test"].encode())


def test_wikitext_word_counts_as_the_references_do(real_data):
    released = (real_data / "wikitext-2" / "wiki.test.tokens").read_bytes().decode()
    plan = wikitext_word(released)
    assert plan.words == 245_569
    assert len(plan.documents) == 60


def test_hf_doc_makes_rows_of_blank_lines_empty():
    assert hf_doc(" \n = A = \n \n text \n").documents[0].parts == ("\n\n = A = \n\n\n\n\n text \n",)


@pytest.mark.slow
def test_hf_doc_is_the_text_of_the_documentation(raw_test, real_data, tmp_path):
    """287,644 tokens of GPT-2 are what the documentation's own code warns about when it encodes the test split."""
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(real_data / "gpt2-tokenizer" / name, tmp_path / name)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer", "model_max_length": 1024}')
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer("Hello world!").input_ids == [15496, 995, 0]
    [joined] = hf_doc(raw_test).documents[0].parts
    assert len(tokenizer.backend_tokenizer.encode(joined, add_special_tokens=False).ids) == 287_644


def test_lm_eval_counts_as_the_harness_does(raw_test):
    plan = lm_eval(raw_test)
    assert len(plan.documents) == 62
    assert plan.words == sum(document.words for document in plan.documents) == 241_335
    assert plan.documents[0].title == "Robert Boulter"


def test_lm_eval_detokenises():
    page = " = A = \n \n It 's the king 's \" old \" house ( a ruin ) , 1 @,@ 200 feet @-@ long ; N years . \n"
    assert detokenise(page) == " = A =\n\nIt's the king's \"old\" house (a ruin), 1,200 feet-long; 1 years.\n"


def test_a_text_with_few_articles_is_cut_into_pieces_that_can_be_paired():
    text = "".join(f"line {number} of a team's own text\n" for number in range(1000))
    units = scored_units(text)
    assert len(units) == 40
    assert "".join(unit.text for unit in units) == text
    assert units[1].title == "lines 26 to 50"
    assert len(scored_units(write_text(1, 3))) > 10
    assert len(scored_units("one line\n")) == 1
