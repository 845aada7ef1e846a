"""The real corpora, and the sample, meet every expectation without a warning."""

import pytest

from components.download.sample import sample_corpus
from components.validate.checks import checks
from components.validate.expectations import run_checks
from components.validate.measures import build_tables
from components.validate.settings import ValidateSettings
from tests.components.validate.texts import read

FILES = {"train": "train", "validation": "valid", "test": "test"}


def complaints(corpus):
    settings = ValidateSettings()
    found = run_checks(checks(corpus, settings, None), build_tables(corpus, settings))
    return [result.sentence for result in found if not result.success]


@pytest.mark.slow
def test_the_release_with_unk_is_as_published(real_data, tmp_path):
    texts = {split: (real_data / f"wikitext-2/wiki.{name}.tokens").read_bytes() for split, name in FILES.items()}
    corpus = read(tmp_path, texts, name="wikitext-2-v1")
    assert complaints(corpus) == []
    train = next(check for check in checks(corpus, ValidateSettings(), None) if check.name == "words as published")
    assert train.low == train.high == 2_051_910


@pytest.mark.slow
def test_the_raw_release_meets_every_expectation(real_data, tmp_path):
    raw = {split: real_data / f"wikitext-2-raw/wiki.{name}.raw" for split, name in FILES.items()}
    texts = {split: path.read_bytes() for split, path in raw.items() if path.is_file()}
    whole = texts.keys() == FILES.keys()
    # The train split of the other release, which has the same articles, replaces this one if it is missing.
    texts.setdefault("train", (real_data / "wikitext-2/wiki.train.tokens").read_bytes())
    corpus = read(tmp_path, texts, name="wikitext-2-raw-v1")
    assert complaints(corpus) == []
    assert whole or len(corpus.splits["train"].articles.titles) == 600


@pytest.mark.slow
def test_a_split_that_was_cut_short_is_found(real_data, tmp_path):
    texts = {split: (real_data / f"wikitext-2/wiki.{name}.tokens").read_bytes() for split, name in FILES.items()}
    cut = texts | {"validation": texts["validation"][:500_000]}
    found = complaints(read(tmp_path, cut, name="wikitext-2-v1"))
    assert [sentence.partition("' failed in ")[0].strip("'") for sentence in found] == [
        "lines as published",
        "articles as published",
        "words as published",
    ]


@pytest.mark.slow
def test_the_sample_meets_every_expectation(tmp_path):
    assert complaints(read(tmp_path, sample_corpus(), name="sample")) == []
