"""Weights of one corpus help on another: the step makes a fine-tuned model folder from a model folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from components.shared.base.failure import Failure
from components.shared.storage.manifest import read_manifest
from components.tokenize.run import write_tokens
from components.tokenize.settings import TokenizeSettings
from components.train.data import open_data
from components.train.loop import validation_loss
from components.train.model import build_model
from components.train.run import run
from components.train.settings import TrainSettings
from components.train.weights import fetch_weights
from tests.components.train.conftest import TINY, make_tokens, tiny, tiny_step, write_tokens_manifest

LONG = {"steps": 150, "evaluate_every": 50, "log_every": 50, "warmup_steps": 5, "validation_tokens": None}
SHORT = {**LONG, "steps": 20, "evaluate_every": 10, "log_every": 10, "learning_rate": 3e-3}


@pytest.fixture(autouse=True)
def without_mlflow(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")


@pytest.fixture
def pretrained(here: Path, tokens_dir: Path) -> Path:
    run(tiny_step(every=None, **LONG), "a" * 32, tokens_dir, here / "pretrained")
    return here / "pretrained"


@pytest.fixture
def other_tokens(here: Path, pretrained: Path) -> Path:
    """Another corpus over some of the same words, in the tokens of the pretrained model."""
    make_tokens(here, seed=5, vocabulary="castle river king battle song bridge queen")
    packed = here / "other"
    facts = write_tokens(TokenizeSettings(tokenizer=str(pretrained)), here / "corpus", packed)
    write_tokens_manifest(packed, facts, "5" * 64)
    return packed


def loss_of(folder: Path, tokens_dir: Path) -> float:
    facts = read_manifest(tokens_dir, "tokens").metadata
    settings = TrainSettings(**{**TINY, **SHORT})
    corpus = open_data(settings, facts, tokens_dir, torch.device("cpu"))
    return validation_loss(AutoModelForCausalLM.from_pretrained(folder), corpus, settings)


@pytest.mark.slow
def test_fine_tuning_beats_the_untouched_weights_and_a_start_from_scratch(
    here: Path, pretrained: Path, other_tokens: Path
) -> None:
    run(tiny_step(pretrained=str(pretrained), **SHORT), "b" * 32, other_tokens, here / "tuned")
    run(tiny_step(**SHORT), "c" * 32, other_tokens, here / "scratch")
    tuned, scratch, untouched = (
        loss_of(folder, other_tokens) for folder in (here / "tuned", here / "scratch", pretrained)
    )
    assert tuned < untouched - 0.1
    assert tuned < scratch - 0.1
    assert tuned == pytest.approx(read_manifest(here / "tuned", "model").metadata["validation_loss"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["lora", "adalora", "prefix"])
def test_an_adapter_is_saved_with_the_model(here: Path, pretrained: Path, other_tokens: Path, adapter: str) -> None:
    settings = {**SHORT, "learning_rate": 3e-2, "pretrained": str(pretrained), "adapter": adapter, "prefix_tokens": 4}
    run(tiny_step(**settings), "b" * 32, other_tokens, here / "tuned")
    manifest = read_manifest(here / "tuned", "model")
    assert "adapter/adapter_model.safetensors" in manifest.files
    assert manifest.metadata["merged"] == (adapter != "prefix")
    if manifest.metadata["merged"]:
        assert loss_of(here / "tuned", other_tokens) == pytest.approx(manifest.metadata["validation_loss"], abs=1e-4)
        assert loss_of(here / "tuned", other_tokens) < loss_of(pretrained, other_tokens)


def test_weights_that_are_no_safetensors_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(Failure, match="other formats are refused"):
        fetch_weights(tiny(pretrained=str(tmp_path)), tmp_path / "scratch")


def test_code_that_comes_with_weights_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoConfig": "evil.Config"}}')
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises((Failure, ValueError)):
        build_model(tiny(pretrained=str(tmp_path)), vocab_size=300, eos_id=0, weights=tmp_path)
    assert not (tmp_path / "owned").exists()


def test_weights_come_from_object_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in {
            "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        from components.shared.storage.s3 import S3Objects

        objects = S3Objects("s3://weights/small/gpt")
        objects.client.create_bucket(Bucket="weights")
        model = build_model(tiny(), vocab_size=64, eos_id=0)
        model.save_pretrained(tmp_path / "made")
        for path in (tmp_path / "made").iterdir():
            objects.put(path.name, path.read_bytes())
        for name in ("pytorch_model.bin", "fp16/model.safetensors", "adapter/adapter_config.json"):
            objects.put(name, b"of another model")
        brought = fetch_weights(tiny(pretrained="s3://weights/small/gpt"), tmp_path / "scratch")
    finally:
        server.stop()
    assert brought
    assert {path.name for path in brought.iterdir()} == {"config.json", "generation_config.json", "model.safetensors"}
    assert (brought / "model.safetensors").read_bytes() == (tmp_path / "made" / "model.safetensors").read_bytes()
