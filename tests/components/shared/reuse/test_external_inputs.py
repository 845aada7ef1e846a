"""New bytes at an old address give another reuse key."""

import boto3
import pytest

from components.shared.reuse.external_inputs import external_input_digests


@pytest.fixture
def weights(tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"first")
    return folder


def settings(address: str | None) -> dict:
    return {"tokenize": {"tokenizer": "bpe"}, "train": {"pretrained": address}}


def test_a_training_from_scratch_or_of_a_pinned_name_has_no_external_inputs():
    assert external_input_digests(settings(None)) == {}
    assert external_input_digests(settings("openai-community/gpt2")) == {}
    assert external_input_digests(settings("/nowhere")) == {}


def test_the_digest_of_a_folder_depends_on_its_bytes(weights, tmp_path):
    first = external_input_digests(settings(str(weights)))
    assert list(first) == ["content.train.pretrained"]
    moved = weights.rename(tmp_path / "moved")
    assert external_input_digests(settings(str(moved))) == first
    (moved / "model.safetensors").write_bytes(b"other")
    assert external_input_digests(settings(str(moved))) != first


def test_a_tokenizer_is_an_external_input_too(weights):
    pointed = {"tokenize": {"tokenizer": str(weights)}, "train": {}}
    assert list(external_input_digests(pointed)) == ["content.tokenize.tokenizer"]


def test_the_digest_of_a_prefix_depends_on_its_listing(s3_emulator, monkeypatch):
    address, env = s3_emulator
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    client = boto3.client("s3")
    client.put_object(Bucket=bucket, Key=f"{prefix}/model.safetensors", Body=b"first")
    first = external_input_digests(settings(address))
    assert external_input_digests(settings(address)) == first
    client.put_object(Bucket=bucket, Key=f"{prefix}/model.safetensors", Body=b"other weights")
    assert external_input_digests(settings(address)) != first
