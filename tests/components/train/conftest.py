"""A corpus, its tokens and settings that are as small as a training can be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.shared.reuse.keys import tokens_parts
from components.shared.runtime.step import Step
from components.shared.storage.manifest import Manifest, read_manifest, write_manifest
from components.tokenize.run import write_tokens
from components.tokenize.settings import TokenizeSettings
from components.train.data import TrainingData, open_data
from components.train.model import build_model, token_loss
from components.train.settings import TrainSettings

TINY: dict[str, Any] = {
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "context": 64,
    "sequence_length": 16,
    "global_batch_size": 4,
    "steps": 8,
    "learning_rate": 1e-2,
    "evaluate_every": 4,
    "validation_tokens": 256,
    "log_every": 2,
    "threads": 1,
    "device": "cpu",
    "precision": "float32",  # a CPU with bfloat16 units would round what tests compare
}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokens_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of kind tokens, as the step `tokenize` makes it."""
    return make_tokens(tmp_path_factory.mktemp("corpus"), seed=1)


@pytest.fixture(scope="session")
def tokens(tokens_dir: Path) -> Manifest:
    return read_manifest(tokens_dir, "tokens")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store and the tracking database of a run are below this folder."""
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    return tmp_path


def tiny(**values: Any) -> TrainSettings:
    return TrainSettings(**{**TINY, **values})


def tiny_step(
    run: str = "run-1",
    *,
    every: int | None = 2,
    every_seconds: float | None = None,
    **values: Any,
) -> Step:
    checkpoints = {"every": every, "every_seconds": every_seconds}
    return Step("train", run, {"checkpoints": checkpoints, "train": {**TINY, **values}})


def open_tiny(settings: TrainSettings, tokens: Manifest, folder: Path) -> tuple[torch.nn.Module, TrainingData]:
    """A model and its training data."""
    model = build_model(settings, vocab_size=tokens.metadata["vocab_size"], eos_id=tokens.metadata["eos_id"])
    return model, open_data(settings, tokens.metadata, folder, torch.device("cpu"))


def loss_after_learning(model: torch.nn.Module, rows: torch.Tensor, vocab_size: int) -> float:
    """The loss of one batch after sixty steps on this batch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = token_loss(model, rows[:, :-1], rows[:, 1:], vocab_size)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def make_tokens(folder: Path, *, seed: int, vocabulary: str = "castle river king battle song tower bridge") -> Path:
    random = np.random.default_rng(seed)
    corpus, packed = folder / "corpus", folder / "tokens"
    corpus.mkdir()
    for split, articles in (("train", 12), ("validation", 3), ("test", 3)):
        (corpus / f"{split}.txt").write_text("".join(_article(random, vocabulary.split()) for _ in range(articles)))
    facts = write_tokens(TokenizeSettings(vocab_size=300), corpus, packed)
    write_tokens_manifest(packed, facts, f"{seed:064x}")
    return packed


def write_tokens_manifest(folder: Path, facts: dict[str, Any], digest: str) -> None:
    """Completes a folder of tokens as the step `tokenize` does."""
    write_manifest(folder, "tokens", {**facts, "dataset_digest": digest, "identity": tokens_parts(digest, {})})


def losses_of(model_dir: Path) -> list[float]:
    """The training and validation losses in the loss curve of a model."""
    rows = [json.loads(line) for line in (model_dir / "history.jsonl").read_text().splitlines()]
    return [row.get("loss", row.get("validation_loss")) for row in rows]


def _article(random: np.random.Generator, words: list[str]) -> str:
    """Text in which every word predicts the next, so that a model can learn something."""
    chosen = [int(random.integers(len(words)))]
    for _ in range(120):
        chosen.append((2 * chosen[-1] + 1 + int(random.random() < 0.2)) % len(words))
    title = words[chosen[0]].capitalize()
    return f" \n = {title} = \n \n " + " ".join(words[each] for each in chosen) + " . \n"
