"""Our own BPE is exact and deterministic, and encodes the lines of a text like the whole text."""

import json
import os
import subprocess
import sys

import pytest
from transformers import AutoTokenizer

from components.shared.text.articles import split_lines
from components.tokenize.tokenizer import END_OF_TEXT, as_fast_tokenizer, train_bpe
from tests.components.tokenize.conftest import ODD, TEXTS

TEXT = TEXTS["train"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe([TEXT], vocab_size=320, min_frequency=2)


@pytest.mark.parametrize("text", [TEXT, ODD, "\n", "\n\n\n", " ", "a"])
def test_lines_one_by_one_are_the_whole_text(tokenizer, text):
    whole = tokenizer.encode(text, add_special_tokens=False).ids
    lines = tokenizer.encode_batch(split_lines(text), add_special_tokens=False)
    assert [token for line in lines for token in line.ids] == whole


def test_real_lines_one_by_one_are_the_whole_text(real_data):
    text = (real_data / "wikitext-2-raw" / "wiki.valid.raw").read_bytes().decode()[:200_000]
    tokenizer = train_bpe([text], vocab_size=2000, min_frequency=2)
    lines = tokenizer.encode_batch_fast(split_lines(text), add_special_tokens=False)
    assert [token for line in lines for token in line.ids] == tokenizer.encode(text, add_special_tokens=False).ids


def test_no_token_reaches_over_the_end_of_a_line(tokenizer):
    vocabulary = [token for token in tokenizer.get_vocab() if token != END_OF_TEXT]
    assert not [token for token in vocabulary if "Ċ" in token[:-1]]


def test_the_vocabulary_has_every_byte_and_the_end_of_text_first(tokenizer):
    assert tokenizer.get_vocab_size() == 320
    assert tokenizer.token_to_id(END_OF_TEXT) == 0
    assert len([token for token in tokenizer.get_vocab() if len(token) == 1]) == 256


def test_a_text_with_few_pairs_gives_a_smaller_vocabulary():
    assert train_bpe(["ab\n"], vocab_size=5000, min_frequency=2).get_vocab_size() == 257


def test_training_twice_gives_the_same_bytes(tokenizer, tmp_path):
    """Also in other processes, with other hash seeds and numbers of threads."""
    code = (
        "from components.tokenize.tokenizer import train_bpe; from tests.components.tokenize.conftest import TEXTS;"
        "print(train_bpe([TEXTS['train']], vocab_size=320, min_frequency=2).to_str())"
    )
    for seed, threads in (("1", "1"), ("2", "2")):
        env = {**os.environ, "PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads}
        seen = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
        assert seen.stdout.rstrip("\n") == tokenizer.to_str()


@pytest.mark.parametrize("model_type", [None, "gpt2", "qwen3"])
def test_transformers_loads_it_unchanged_with_any_model(tokenizer, tmp_path, model_type):
    as_fast_tokenizer(tokenizer).save_pretrained(tmp_path)
    if model_type:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    loaded = AutoTokenizer.from_pretrained(str(tmp_path))
    text = ODD.replace(END_OF_TEXT, "")
    ids = loaded(text)["input_ids"]
    assert ids == tokenizer.encode(text, add_special_tokens=False).ids
    assert loaded.decode(ids) == text
    assert (loaded.eos_token_id, loaded.bos_token_id, loaded.pad_token_id) == (0, 0, None)
    assert loaded.model_max_length > 10**9
