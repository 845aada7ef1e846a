"""Pretrained tokenizers: GPT-2's own files, a folder, object storage, and what is refused."""

import json
import shutil

import boto3
import pytest
from tokenizers import Tokenizer

from components.shared.base.failure import ExitCode, Failure
from components.tokenize.pretrained import PINNED, load_pretrained
from components.tokenize.tokenizer import as_fast_tokenizer, train_bpe
from tests.components.tokenize.conftest import ODD, TEXTS


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "tokenizer"
    as_fast_tokenizer(train_bpe([TEXTS["train"]], vocab_size=300, min_frequency=2)).save_pretrained(folder)
    return folder


def test_gpt2_s_two_files_give_the_published_tokens(real_data, tmp_path):
    tokenizer = load_pretrained(str(real_data / "gpt2-tokenizer"), None, tmp_path)
    assert len(tokenizer) == 50257
    assert tokenizer.encode("Hello world!") == [15496, 995, 0]
    assert tokenizer.eos_token_id == 50256


@pytest.mark.slow
def test_gpt2_counts_the_published_number_of_tokens(real_data, tmp_path):
    """Rows joined by two newlines, as in Hugging Face's documentation of perplexity."""
    tokenizer = load_pretrained(str(real_data / "gpt2-tokenizer"), None, tmp_path).backend_tokenizer
    raw = (real_data / "wikitext-2-raw" / "wiki.test.raw").read_bytes().decode()
    rows = [line if line.strip() else "" for line in raw.splitlines(keepends=True)]
    assert len(rows) == 4358
    assert len(tokenizer.encode("\n\n".join(rows)).ids) == 287_644


def test_a_folder_is_loaded_as_it_was_saved(folder, tmp_path):
    loaded = load_pretrained(str(folder), None, tmp_path)
    saved = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert loaded.backend_tokenizer.to_str() == saved.to_str()
    assert loaded.eos_token_id == 0


def test_a_prefix_of_a_bucket_is_loaded(folder, tmp_path, s3_emulator, monkeypatch):
    address, env = s3_emulator
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    for path in folder.iterdir():
        boto3.client("s3").upload_file(str(path), bucket, f"{prefix}/{path.name}")
    work = tmp_path / "work"
    work.mkdir()
    assert load_pretrained(address, None, work).encode(ODD) == load_pretrained(str(folder), None, work).encode(ODD)


def test_an_empty_folder_holds_no_tokenizer(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(Failure, match="There is no tokenizer"):
        load_pretrained(str(tmp_path / "empty"), None, tmp_path)


def test_a_tokenizer_without_an_end_of_text_is_refused(folder, tmp_path):
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in config.items() if not key.endswith("os_token")}))
    with pytest.raises(Failure, match="no end-of-text token"):
        load_pretrained(str(folder), None, tmp_path)


def test_a_folder_that_is_missing_is_not_looked_for_on_the_hub(folder, tmp_path):
    shutil.rmtree(folder)
    with pytest.raises(Failure, match="There is no tokenizer") as failure:
        load_pretrained(str(folder), None, tmp_path)
    assert failure.value.where == str(folder)


def test_the_hub_is_asked_for_pinned_revisions_alone(tmp_path):
    with pytest.raises(Failure, match="revision is not pinned") as failure:
        load_pretrained("someone/some-tokenizer", None, tmp_path)
    assert failure.value.exit_code == ExitCode.USAGE
    assert all(len(revision) == 40 for revision in PINNED.values())
