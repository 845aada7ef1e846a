"""Rows of candidates learn as the whole matrices do with AdamW, and the model is complete where others see it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from components.shared.base.failure import Interrupted
from components.shared.storage.manifest import Manifest
from components.train.extras.candidate_rows import CandidateRows
from components.train.extras.sampled_softmax import CandidateSampler
from components.train.loop import train
from components.train.model import build_model, token_loss
from components.train.settings import TrainSettings
from tests.components.train.conftest import open_tiny, tiny

VOCABULARY, SIZE, STEPS = 200, 48, 60
CPU = torch.device("cpu")
SHAPES = pytest.mark.parametrize(("architecture", "tied"), [("qwen3", True), ("qwen3", False), ("gpt2", True)])


@pytest.fixture(scope="module")
def text() -> np.ndarray:
    """Larger ids are rarer, so that most rows miss many steps."""
    return np.minimum(np.random.default_rng(1).geometric(0.05, 20_000) - 1, VOCABULARY - 11)


def batch_of(text: np.ndarray, step: int) -> tuple[Tensor, Tensor]:
    rows = torch.from_numpy(np.random.default_rng(step).choice(text, (2, 13)))
    return rows[:, :-1], rows[:, 1:]


def sampler_of(text: np.ndarray) -> CandidateSampler:
    return CandidateSampler(np.bincount(text, minlength=VOCABULARY), size=SIZE, tokens=26, seed=1, device=CPU)


def settings_of(architecture: str, tied: bool) -> TrainSettings:
    return tiny(architecture=architecture, tied_embeddings=tied, beta2=0.99, learning_rate=1e-2)


def embeddings_of(model: Any) -> list[Tensor]:
    return [model.get_input_embeddings().weight, model.get_output_embeddings().weight]


@SHAPES
def test_it_is_adamw_on_the_whole_matrices(architecture: str, tied: bool, text: np.ndarray) -> None:
    """Both get the same gradients, which do not depend on the weights, so that a difference cannot grow."""
    settings = settings_of(architecture, tied)
    model = build_model(settings, vocab_size=VOCABULARY, eos_id=0)
    begin = {id(weight): weight.detach().clone() for weight in embeddings_of(model)}
    theirs = {key: torch.nn.Parameter(weight.clone()) for key, weight in begin.items()}
    rows = CandidateRows(model, sampler_of(text), settings)
    adamw = torch.optim.AdamW(theirs.values(), lr=settings.learning_rate, betas=(0.9, 0.99), weight_decay=0)
    random = torch.Generator().manual_seed(0)
    for step in range(STEPS):
        for optimizer in (adamw, rows):
            optimizer.param_groups[0]["lr"] = settings.learning_rate * (1 - step / STEPS)
        candidates = rows.load(step, *batch_of(text, step))
        for key, weight in theirs.items():
            gradient = torch.randn(SIZE + 1, weight.shape[1], generator=random) + 0.5
            rows.resident[key].grad = gradient
            weight.grad = torch.zeros_like(weight).index_copy(0, candidates.ids, gradient[:-1])
        rows.step()
        adamw.step()
    with rows.whole_matrices():
        for key, weight in rows.whole.items():
            moved = (theirs[key] - begin[key]).norm()
            assert (weight - theirs[key]).norm() < 5e-3 * moved
            assert moved > 1


@SHAPES
def test_the_model_is_complete_while_it_is_evaluated_and_after_training(
    architecture: str, tied: bool, text: np.ndarray
) -> None:
    settings = settings_of(architecture, tied)
    model = build_model(settings, vocab_size=VOCABULARY, eos_id=0)
    whole = embeddings_of(model)
    rows = CandidateRows(model, sampler_of(text), settings)
    inputs, targets = batch_of(text, 0)
    loss = token_loss(model, inputs, targets, VOCABULARY, rows.load(0, inputs, targets))
    loss.backward()
    rows.step()
    assert {len(weight) for weight in embeddings_of(model)} == {SIZE + 1}
    for _ in range(2):  # the second time nothing is left to be made up for
        before = [weight.detach().clone() for weight in whole]
        with rows.whole_matrices():
            assert all(weight is other for weight, other in zip(embeddings_of(model), whole, strict=True))
            assert all(torch.equal(weight, other) for weight, other in zip(whole, before, strict=True))
        assert {len(weight) for weight in embeddings_of(model)} == {SIZE + 1}
    rows.release()
    assert all(weight is other for weight, other in zip(embeddings_of(model), whole, strict=True))
    assert (embeddings_of(model)[0] is embeddings_of(model)[1]) == tied


def test_a_token_that_is_never_a_candidate_keeps_its_embedding(text: np.ndarray) -> None:
    settings = settings_of("qwen3", True)
    model = build_model(settings, vocab_size=VOCABULARY, eos_id=0)
    before = model.get_input_embeddings().weight.detach().clone()
    rows, seen = CandidateRows(model, sampler_of(text), settings), set[int]()
    for step in range(2):
        inputs, targets = batch_of(text, step)
        candidates = rows.load(step, inputs, targets)
        seen |= set(candidates.ids.tolist())
        token_loss(model, inputs, targets, VOCABULARY, candidates).backward()
        rows.step()
        model.zero_grad()
    rows.release()
    after = model.get_input_embeddings().weight
    changed = set((before != after).any(dim=1).nonzero().flatten().tolist())
    assert changed == seen and len(seen) < VOCABULARY


def test_the_model_of_an_interrupted_training_is_complete(tokens: Manifest, tokens_dir: Path) -> None:
    settings = tiny(sampled_softmax=128)
    model, corpus = open_tiny(settings, tokens, tokens_dir)
    whole = embeddings_of(model)
    with pytest.raises(Interrupted):
        train(model, corpus, settings, steps=8, device=CPU, stop_requested=lambda: True)
    assert all(weight is other for weight, other in zip(embeddings_of(model), whole, strict=True))
