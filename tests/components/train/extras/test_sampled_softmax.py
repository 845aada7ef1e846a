from pathlib import Path

import numpy as np
import pytest
import torch

from components.shared.base.failure import ExitCode, Failure
from components.shared.storage.manifest import Manifest
from components.train.extras.candidate_rows import CandidateRows
from components.train.extras.sampled_softmax import (
    Candidates,
    CandidateSampler,
    candidate_sampler,
    candidates_per_step,
)
from components.train.loop import train
from components.train.model import build_model, token_loss
from tests.components.train.conftest import open_tiny, tiny

VOCABULARY, TARGETS, SIZE = 100, 12, 24
CPU = torch.device("cpu")
BOTH = pytest.mark.parametrize("architecture", ["qwen3", "gpt2"])


@pytest.fixture(scope="module")
def text() -> np.ndarray:
    """Larger ids are rarer, and the last ten do not occur."""
    random = np.random.default_rng(1)
    return np.minimum(random.geometric(0.08, 50_000) - 1, VOCABULARY - 11)


def sampler_of(text: np.ndarray, *, size: int = SIZE, seed: int = 1) -> CandidateSampler:
    return CandidateSampler(
        np.bincount(text, minlength=VOCABULARY), size=size, tokens=TARGETS + 3, seed=seed, device=CPU
    )


def batch_of(text: np.ndarray, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(step)
    rows = torch.from_numpy(random.choice(text, (3, TARGETS // 3 + 1)))
    return rows[:, :-1], rows[:, 1:]


def test_a_sample_contains_every_token_and_its_index(text: np.ndarray) -> None:
    batch = batch_of(text, 0)
    candidates = sampler_of(text).draw(0, *batch)
    assert torch.equal(candidates.ids, candidates.ids.unique())
    assert len(candidates.ids) == len(candidates.logq_correction) == SIZE
    for tokens in batch:
        assert torch.equal(candidates.ids[candidates.index_of[tokens]], tokens)
    absent = torch.ones(VOCABULARY, dtype=torch.bool)
    absent[candidates.ids] = False
    assert (candidates.index_of[absent] == SIZE).all()


def test_the_sum_over_samples_is_on_average_that_over_the_vocabulary(text: np.ndarray) -> None:
    """The weight of a token is the inverse of the probability with which it is drawn."""
    sampler, values = sampler_of(text), torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(2)).exp()
    sums = []
    for step in range(4000):
        drawn = sampler.draw(step, *batch_of(text, step))
        sums.append((values[drawn.ids] * drawn.logq_correction.exp()).sum())
    estimates = torch.stack(sums)
    error = estimates.std().item() / len(sums) ** 0.5
    assert estimates.mean().item() == pytest.approx(values.sum().item(), abs=5 * error)
    assert error < 0.01 * values.sum().item()


def test_the_seed_and_the_step_decide(text: np.ndarray) -> None:
    batch = batch_of(text, 0)
    first = sampler_of(text).draw(7, *batch).ids
    later = sampler_of(text)
    later.draw(3, *batch)
    torch.manual_seed(5)
    assert torch.equal(later.draw(7, *batch).ids, first)
    assert not torch.equal(later.draw(8, *batch).ids, first)
    assert not torch.equal(sampler_of(text, seed=2).draw(7, *batch).ids, first)


def test_the_sampler_and_dropout_use_different_random_streams(tokens: Manifest, tokens_dir: Path) -> None:
    """Otherwise words would be dropped in the steps in which they are not candidates."""
    settings = tiny(steps=1, embedding_dropout=0.5, sampled_softmax=128)
    model, corpus = open_tiny(settings, tokens, tokens_dir)
    seeds: list[int] = []
    model.base_model.register_forward_pre_hook(lambda module, inputs: seeds.append(torch.initial_seed()))
    train(model, corpus, settings, steps=1, device=CPU)
    counts = corpus.train.split.counts(corpus.vocab_size)
    sampler = CandidateSampler(counts, size=128, tokens=68, seed=1, device=CPU)
    sampler.draw(0, *torch.zeros(2, 1, 1, dtype=torch.int64))
    assert sampler.generator.initial_seed() != seeds[0]


def test_a_sample_that_the_targets_alone_would_fill_is_refused(text: np.ndarray) -> None:
    with pytest.raises(Failure, match="15 tokens is expected to have 12 different ones") as caught:
        sampler_of(text, size=8)
    assert caught.value.exit_code == ExitCode.USAGE
    assert "set it to 15" in str(caught.value)


def test_tokens_beyond_the_sample_are_left_out_of_the_loss(text: np.ndarray) -> None:
    model = build_model(tiny(), vocab_size=VOCABULARY, eos_id=0)
    targets = torch.arange(32).view(2, 16)
    rows = CandidateRows(model, sampler_of(text), tiny())
    candidates = rows.load(0, targets, targets)
    assert (candidates.index_of[targets] < SIZE).sum() == SIZE
    loss = token_loss(model, targets, targets, VOCABULARY, candidates)
    (gradient,) = torch.autograd.grad(loss, list(rows.resident.values()))
    assert loss.isfinite() and gradient.isfinite().all()


@BOTH
def test_the_whole_vocabulary_as_a_sample_gives_the_plain_loss(architecture: str) -> None:
    model = build_model(tiny(architecture=architecture), vocab_size=VOCABULARY, eos_id=0)
    rows = torch.randint(VOCABULARY, (2, 17), generator=torch.Generator().manual_seed(3))
    inputs, targets = rows[:, :-1], rows[:, 1:]
    everything = torch.arange(VOCABULARY)
    whole = Candidates(everything, everything, torch.zeros(VOCABULARY))
    plain, sampled = (token_loss(model, inputs, targets, VOCABULARY, each) for each in (None, whole))
    assert sampled.item() == pytest.approx(plain.item(), abs=1e-5)
    weights = list(model.parameters())
    for one, other in zip(torch.autograd.grad(plain, weights), torch.autograd.grad(sampled, weights), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.slow
@BOTH
def test_training_by_samples_learns_nearly_as_much(architecture: str, tokens: Manifest, tokens_dir: Path) -> None:
    """With this learning rate and warm-up, five of five seeds end within two per cent of each other."""
    reached = []
    values = {"architecture": architecture, "steps": 150, "evaluate_every": 150}
    for size in (None, 128):
        settings = tiny(learning_rate=5e-3, warmup_steps=20, sampled_softmax=size, **values)
        model, corpus = open_tiny(settings, tokens, tokens_dir)
        reached.append(train(model, corpus, settings, steps=150, device=CPU).best_loss)
    assert reached[1] != reached[0]
    assert reached[1] == pytest.approx(reached[0], rel=0.05)


def test_a_small_vocabulary_is_used_completely(tokens: Manifest, tokens_dir: Path) -> None:
    for size in (None, tokens.metadata["vocab_size"]):
        settings = tiny(sampled_softmax=size)
        _, corpus = open_tiny(settings, tokens, tokens_dir)
        assert candidates_per_step(settings, corpus.vocab_size) is None
        assert candidate_sampler(corpus.train, corpus.vocab_size, settings) is None
