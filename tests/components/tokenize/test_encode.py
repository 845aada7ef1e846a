"""Encoding is reversible, finds the beginnings of articles, and refuses a tokenizer that loses text."""

from itertools import pairwise

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from components.shared.base.failure import Failure
from components.shared.text.articles import split_articles
from components.tokenize import tokenizer as module
from components.tokenize.tokenizer import END_OF_TEXT, Encoded, dtype_for, train_bpe
from tests.components.tokenize.conftest import ODD, TEXTS


@pytest.fixture(scope="module")
def tokenizer():
    return train_bpe([TEXTS["train"]], vocab_size=300, min_frequency=2)


def encode(tokenizer, text, dtype):
    """The tokens of a whole text, and the positions at which articles begin, with the end."""
    parts = list(module.encode(tokenizer, [text], dtype))
    ids = np.concatenate([part.ids for part in parts])
    before = np.cumsum([0, *(len(part.ids) for part in parts)]).tolist()
    articles = [first + start for first, part in zip(before, parts, strict=False) for start in part.articles]
    return Encoded(ids, [*articles, len(ids)])


@pytest.mark.parametrize("text", [*TEXTS.values(), ODD, "a", "\n"])
def test_decoding_gives_the_text_back(tokenizer, text):
    ids = encode(tokenizer, text, np.dtype("<u2")).ids
    assert tokenizer.decode(ids.tolist(), skip_special_tokens=False) == text


def test_a_text_that_spells_the_end_of_text_has_none(tokenizer):
    ids = encode(tokenizer, ODD, np.dtype("<u2")).ids
    assert tokenizer.token_to_id(END_OF_TEXT) not in ids
    assert tokenizer.encode(END_OF_TEXT).ids == [tokenizer.token_to_id(END_OF_TEXT)], "only while encoding a split"


@pytest.mark.parametrize("chunk", [1, 2, 7, 8192])
def test_the_size_of_a_batch_changes_nothing(tokenizer, monkeypatch, chunk):
    whole = encode(tokenizer, TEXTS["train"], np.dtype("<u2"))
    monkeypatch.setattr(module, "CHUNK", chunk)
    again = encode(tokenizer, TEXTS["train"], np.dtype("<u2"))
    assert np.array_equal(whole.ids, again.ids)
    assert whole.articles == again.articles


@pytest.mark.parametrize("text", [*TEXTS.values(), ODD])
def test_each_article_is_its_own_tokens(tokenizer, text):
    encoded = encode(tokenizer, text, np.dtype("<u2"))
    assert encoded.articles[0] == 0
    assert encoded.articles[-1] == len(encoded.ids)
    pieces = [encoded.ids[start:end].tolist() for start, end in pairwise(encoded.articles)]
    decoded = [tokenizer.decode(piece, skip_special_tokens=False) for piece in pieces]
    assert decoded == [article.text for article in split_articles(text)]


@pytest.mark.parametrize(
    ("vocab_size", "dtype"), [(300, "<u2"), (50_257, "<u2"), (65_536, "<u2"), (65_537, "<u4"), (151_669, "<u4")]
)
def test_two_bytes_where_the_vocabulary_allows(vocab_size, dtype):
    assert dtype_for(vocab_size) == np.dtype(dtype)
    assert np.iinfo(dtype_for(vocab_size)).max >= vocab_size - 1


def test_a_tokenizer_that_changes_the_text_is_refused(tokenizer):
    lossy = Tokenizer.from_str(tokenizer.to_str())
    lossy.normalizer = normalizers.Lowercase()
    with pytest.raises(Failure, match=r"loses text: ' = One = .* is decoded as ' = one = ") as failure:
        encode(lossy, " = One = \n", np.dtype("<u2"))
    assert failure.value.where == "tokenize.tokenizer"


def test_a_tokenizer_that_drops_words_is_refused():
    words = Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.decoder = decoders.Fuse()
    with pytest.raises(Failure, match="loses text"):
        encode(words, "a b\n", np.dtype("<u2"))


def test_bytes_of_tokens_are_those_that_decoding_gives(tokenizer):
    found = module._TokenBytes.of(tokenizer)
    ids = encode(tokenizer, ODD, np.dtype("<u2")).ids
    assert found.join(ids) == ODD.encode()
    assert found.join(ids[:0]) == b""


def test_only_a_byte_level_tokenizer_has_bytes_of_tokens(tokenizer):
    other = Tokenizer.from_str(tokenizer.to_str())
    other.decoder = decoders.Fuse()
    assert module._TokenBytes.of(other) is None


def test_text_is_not_decoded_where_the_bytes_of_its_tokens_are_those_of_the_text(tokenizer, monkeypatch):
    monkeypatch.setattr(module, "_check", None)
    assert len(encode(tokenizer, ODD, np.dtype("<u2")).ids)


def test_an_added_token_is_decoded(tokenizer):
    added = Tokenizer.from_str(tokenizer.to_str())
    added.add_tokens(["castle"])
    text = TEXTS["train"]
    ids = encode(added, text, np.dtype("<u2")).ids
    assert added.token_to_id("castle") in ids
    assert added.decode(ids.tolist(), skip_special_tokens=False) == text
