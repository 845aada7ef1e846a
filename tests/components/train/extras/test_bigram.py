import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from safetensors.torch import load_file
from torch import Tensor

from components.train.extras.bigram import bigram_factors
from components.train.model import build_model, save_model, token_loss
from tests.components.train.conftest import loss_after_learning, tiny

CLASSES = [range(5), range(5, 10), range(10, 15)]  # determiners, nouns and verbs, say
VOCABULARY, ABSENT = 16, 15
SAME = torch.tensor([[i // 5 == j // 5 for j in range(ABSENT)] for i in range(ABSENT)])
BOTH = pytest.mark.parametrize("architecture", ["qwen3", "gpt2"])


@pytest.fixture(scope="module")
def text() -> np.ndarray:
    """Ids in which only the class of a token predicts the next one."""
    random = np.random.default_rng(1)
    return np.array([random.choice(CLASSES[place % 3]) for place in range(6000)], dtype=np.int64)


def factors_of(text: np.ndarray, *, width: int = VOCABULARY, seed: int = 1) -> tuple[Tensor, Tensor]:
    return bigram_factors(text, vocab_size=VOCABULARY, width=width, seed=seed)


def test_tokens_of_the_same_company_are_near_each_other(text: np.ndarray) -> None:
    for factor in factors_of(text, width=4):
        unit = F.normalize(factor[:ABSENT], dim=1)
        alike = unit @ unit.T
        assert alike[SAME].min() > 0.9
        assert alike[~SAME].max() < 0.5


def test_products_are_the_mutual_information_and_the_frequency_of_what_follows(text: np.ndarray) -> None:
    joint = np.zeros((VOCABULARY, VOCABULARY))
    for distance in (1, 2):
        np.add.at(joint, (text[:-distance], text[distance:]), 1 / distance)
    joint /= joint.sum()
    share = np.bincount(text, minlength=VOCABULARY) / len(text)
    smoothed = np.sqrt(share**1.75 / (share**0.75).sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.nan_to_num(np.maximum(0, np.log(joint / np.outer(smoothed, smoothed))))
    frequency = np.log(1 + np.bincount(text, minlength=VOCABULARY))
    expected = information + 0.3 * (frequency - frequency.mean())
    inputs, outputs = factors_of(text)
    products = (inputs @ outputs.T).numpy()
    scale = np.abs(products).sum() / np.abs(expected).sum()
    np.testing.assert_allclose(products, scale * expected, atol=1e-3)


def test_shapes_lengths_and_a_width_beyond_the_vocabulary(text: np.ndarray) -> None:
    for factor in factors_of(text, width=24):
        assert factor.shape == (VOCABULARY, 24)
        assert factor.dtype == torch.float32
        assert factor.norm(dim=1).mean().item() == pytest.approx(2.0)
    assert all(factor.isfinite().all() for factor in factors_of(np.zeros(100, dtype=np.int64)))


def test_the_seed_decides_and_nothing_else(text: np.ndarray) -> None:
    assert torch.equal(factors_of(text)[0], factors_of(text)[0])
    assert not torch.equal(factors_of(text)[0], factors_of(text, seed=2)[0])


@BOTH
def test_the_initial_loss_is_that_of_bigrams(text: np.ndarray, architecture: str) -> None:
    settings = tiny(architecture=architecture, init="bigram", tied_embeddings=False)
    model = build_model(settings, vocab_size=VOCABULARY, eos_id=0, ids=lambda: text)
    rows = torch.from_numpy(text[:1700]).view(100, 17)
    loss = token_loss(model, rows[:, :-1], rows[:, 1:], VOCABULARY).item()
    # One of five tokens can follow each token, so the class of the next one is all that a model can learn.
    assert math.log(5) < loss < math.log(5) + 0.35
    inputs, outputs = factors_of(text, width=settings.hidden_size)
    assert torch.equal(model.get_input_embeddings().weight[:VOCABULARY], inputs)
    assert torch.equal(model.get_output_embeddings().weight[:VOCABULARY], outputs)


@BOTH
def test_tied_embeddings_begin_with_similar_vectors_and_a_uniform_loss(text: np.ndarray, architecture: str) -> None:
    settings = tiny(architecture=architecture, init="bigram")
    model = build_model(settings, vocab_size=VOCABULARY, eos_id=0, ids=lambda: text)
    unit = F.normalize(model.get_input_embeddings().weight[:ABSENT], dim=1)
    assert (unit @ unit.T)[SAME].mean() > (unit @ unit.T)[~SAME].mean() + 0.5
    rows = torch.from_numpy(text[:1700]).view(100, 17)
    loss = token_loss(model, rows[:, :-1], rows[:, 1:], VOCABULARY).item()
    assert loss < math.log(VOCABULARY) + 0.1


@BOTH
@pytest.mark.parametrize("tied", [True, False])
def test_training_improves_the_initial_loss(text: np.ndarray, architecture: str, tied: bool) -> None:
    """No weight keeps the value zero that it began with."""
    settings = tiny(architecture=architecture, init="bigram", tied_embeddings=tied)
    model = build_model(settings, vocab_size=VOCABULARY, eos_id=0, ids=lambda: text)
    assert loss_after_learning(model, torch.from_numpy(text[:34]).view(2, 17), VOCABULARY) < 0.2


def test_pretrained_weights_stay_as_they_are(text: np.ndarray, tmp_path: Path) -> None:
    pretrained = build_model(tiny(seed=5), vocab_size=VOCABULARY, eos_id=0)
    save_model(pretrained, tmp_path, vocab_size=VOCABULARY, eos_id=0)
    settings = tiny(pretrained=str(tmp_path), init="bigram")
    model = build_model(settings, vocab_size=VOCABULARY, eos_id=0, weights=tmp_path, ids=lambda: text)
    kept = load_file(tmp_path / "model.safetensors")["model.embed_tokens.weight"]
    assert torch.equal(model.get_input_embeddings().weight[:VOCABULARY], kept)


def test_it_is_an_option_and_needs_a_text(text: np.ndarray) -> None:
    plain = build_model(tiny(tied_embeddings=False), vocab_size=VOCABULARY, eos_id=0, ids=lambda: text)
    resumed = build_model(tiny(init="bigram", tied_embeddings=False), vocab_size=VOCABULARY, eos_id=0)
    assert torch.equal(plain.get_input_embeddings().weight, resumed.get_input_embeddings().weight)
