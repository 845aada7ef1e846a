"""The step, called as the pipeline calls it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from components.shared.base.failure import Failure
from components.shared.storage.files import file_fact
from components.shared.storage.manifest import read_manifest
from components.shared.storage.store import open_store
from components.shared.text.articles import SPLITS, count_lines, count_words
from components.tokenize.run import write_tokens
from components.tokenize.settings import TokenizeSettings
from tests.components.tokenize.conftest import ODD, TEXTS

SMALL = TokenizeSettings(vocab_size=320)


def decoded(folder: Path, split: str, dtype: str) -> str:
    ids = np.fromfile(folder / f"{split}.bin", dtype=np.dtype(dtype).newbyteorder("<"))
    return AutoTokenizer.from_pretrained(str(folder / "tokenizer")).decode(ids.tolist())


def test_every_split_comes_back_byte_for_byte(make_corpus, tmp_path):
    corpus = make_corpus(test=ODD)
    metadata = write_tokens(SMALL, corpus, tmp_path / "tokens")
    for split in SPLITS:
        assert decoded(tmp_path / "tokens", split, metadata["dtype"]).encode() == (corpus / f"{split}.txt").read_bytes()


def test_the_facts_are_those_of_the_texts(make_corpus, tmp_path):
    metadata = write_tokens(SMALL, make_corpus(), tmp_path / "tokens")
    assert (metadata["dtype"], metadata["vocab_size"], metadata["eos_id"]) == ("uint16", 320, 0)
    assert metadata["tokenizer_digest"] == file_fact(tmp_path / "tokens" / "tokenizer" / "tokenizer.json").sha256
    for split, articles in {"train": 3, "validation": 1, "test": 2}.items():
        text, seen = TEXTS[split], metadata["splits"][split]
        assert (seen["words"], seen["lines"]) == (count_words(text), count_lines(text))
        assert (seen["bytes"], seen["articles"]) == (len(text.encode()), articles)
        assert seen["tokens"] * 2 == (tmp_path / "tokens" / f"{split}.bin").stat().st_size
        assert np.load(tmp_path / "tokens" / f"{split}.articles.npy")[-1] == seen["tokens"]


def test_the_tokenizer_sees_the_train_split_alone(make_corpus, tmp_path):
    first = write_tokens(SMALL, make_corpus(), tmp_path / "a")
    held_out = write_tokens(SMALL, make_corpus(validation="zebra " * 99, test="quagga " * 99), tmp_path / "b")
    train = write_tokens(SMALL, make_corpus(train="zebra " * 99), tmp_path / "c")
    assert held_out["tokenizer_digest"] == first["tokenizer_digest"] != train["tokenizer_digest"]


def test_the_same_corpus_gives_the_same_folder(make_corpus, tmp_path):
    corpus = make_corpus()
    for name in ("a", "b"):
        write_tokens(SMALL, corpus, tmp_path / name)
    names = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(names) == 8
    assert [(tmp_path / "a" / name).read_bytes() for name in names] == [
        (tmp_path / "b" / name).read_bytes() for name in names
    ]


def test_real_wikitext_comes_back_byte_for_byte_under_gpt2(real_data, make_corpus, tmp_path):
    raw = (real_data / "wikitext-2-raw" / "wiki.valid.raw").read_bytes().decode()[:300_000]
    settings = TokenizeSettings(tokenizer=str(real_data / "gpt2-tokenizer"))
    metadata = write_tokens(settings, make_corpus(validation=raw), tmp_path / "tokens")
    assert (metadata["vocab_size"], metadata["eos_id"], metadata["dtype"]) == (50257, 50256, "uint16")
    assert decoded(tmp_path / "tokens", "validation", "uint16") == raw


@pytest.mark.slow
def test_the_real_corpus_comes_back_byte_for_byte(real_data, make_corpus, tmp_path):
    released = {"train": "train", "validation": "valid", "test": "test"}
    texts = {
        split: (real_data / "wikitext-2" / f"wiki.{name}.tokens").read_bytes().decode()
        for split, name in released.items()
    }
    metadata = write_tokens(TokenizeSettings(), make_corpus(**texts), tmp_path / "tokens")
    counts = {split: (seen["lines"], seen["articles"], seen["words"]) for split, seen in metadata["splits"].items()}
    assert counts == {
        "train": (36_718, 600, 2_088_628),
        "validation": (3_760, 60, 217_646),
        "test": (4_358, 60, 245_569),
    }
    for split, text in texts.items():
        assert decoded(tmp_path / "tokens", split, "uint16") == text


class TestInAProcess:
    """A process of the pipeline, with a store and without the network."""

    CODE = """
import sys
from pathlib import Path
from components.shared.runtime.step import Step
from components.tokenize.run import run
step = Step("tokenize", "run-1", {"tokenize": {"vocab_size": 320}})
run(step, "f" * 32, Path(sys.argv[1]), Path(sys.argv[2]))
print(sorted({"torch", "datasets", "pandas", "great_expectations"} & sys.modules.keys()))
"""

    def run(self, corpus: Path, tokens: Path, tmp_path: Path) -> list[str]:
        env = {**os.environ, "WIKIGPT_STORE": str(tmp_path / "store")}
        arguments = [sys.executable, "-c", self.CODE, str(corpus), str(tokens)]
        return subprocess.run(arguments, env=env, capture_output=True, text=True, check=True).stdout.splitlines()

    def test_tokens_are_published_and_then_reused_without_torch(self, make_corpus, tmp_path):
        corpus = make_corpus()
        lines = self.run(corpus, tmp_path / "tokens", tmp_path)
        assert lines[-1] == "[]"
        manifest = read_manifest(tmp_path / "tokens", "tokens")
        assert manifest.metadata["dataset_digest"] == "d" * 64
        assert manifest.metadata["identity"].items() >= {"dataset": "d" * 64, "tokenize.vocab_size": 320}.items()
        assert open_store(str(tmp_path / "store")).find("tokens", "f" * 32) == manifest
        again = [json.loads(line) for line in self.run(corpus, tmp_path / "again", tmp_path)[:-1]]
        assert [event["event"] for event in again] == ["reused"]
        assert read_manifest(tmp_path / "again", "tokens") == manifest


def test_a_lossy_tokenizer_leaves_no_manifest(make_corpus, tmp_path):
    folder = tmp_path / "lossy"
    write_tokens(SMALL, make_corpus(), tmp_path / "first")
    (tmp_path / "first" / "tokenizer").rename(folder)
    spec = json.loads((folder / "tokenizer.json").read_text())
    spec["normalizer"] = {"type": "Lowercase"}
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    with pytest.raises(Failure, match="loses text"):
        write_tokens(TokenizeSettings(tokenizer=str(folder)), make_corpus(), tmp_path / "tokens")
    assert not (tmp_path / "tokens" / "manifest.json").exists()
