"""Dynamic evaluation agrees with the formulas of its publication, written out weight by weight."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from components.evaluate.dynamic import EPSILON, DynamicScorer, gradient_scale
from components.evaluate.perplexity import encode_text
from components.evaluate.scoring import Scorer
from tests.components.evaluate.conftest import make_model

WINDOW = 16


@pytest.fixture(scope="module")
def ids(tokenizer, texts) -> np.ndarray:
    return encode_text(texts["test"], tokenizer, 0)[:150]


@pytest.fixture(scope="module")
def train_ids(tokenizer, texts) -> np.ndarray:
    return encode_text(texts["train"], tokenizer, 0)[:100]


def adapting(model: Any, train_ids: np.ndarray, *, stride: int, learning_rate: float, decay: float) -> DynamicScorer:
    scorer = Scorer(model, WINDOW, stride)
    scale = gradient_scale(scorer, train_ids)
    return DynamicScorer(**vars(scorer), scale=scale, learning_rate=learning_rate, decay=decay)


def segments(length: int, stride: int) -> list[tuple[int, int, int]]:
    """Begin, first scored token and end of each window: every token after the first is scored once."""
    found, done = [], 1
    while done < length:
        end = min(max(WINDOW + 1, done + stride), length)
        found.append((max(0, end - WINDOW - 1), done, end))
        done = end
    return found


def loss_of(model: Any, ids: torch.Tensor, segment: tuple[int, int, int]) -> torch.Tensor:
    begin, first, end = segment
    logits = model(ids[None, begin:end]).logits[0, first - begin - 1 : end - begin - 1]
    return cross_entropy(logits, ids[first:end], reduction="none")


def written_out(
    model: Any, sequence: np.ndarray, train: np.ndarray, stride: int, rate: float, decay: float
) -> np.ndarray:
    """Krause et al. 2018, equations 5 to 8, in numpy."""
    model, ids = deepcopy(model), torch.from_numpy(sequence)

    def gradients(text: torch.Tensor, segment: tuple[int, int, int]) -> tuple[np.ndarray, list[np.ndarray]]:
        model.zero_grad()
        nll = loss_of(model, text, segment)
        nll.mean().backward()
        return nll.detach().double().numpy(), [weight.grad.double().numpy().copy() for weight in model.parameters()]

    of_training = [gradients(torch.from_numpy(train), each)[1] for each in segments(len(train), stride)]
    rms = [np.sqrt(np.mean([np.square(each) for each in column], axis=0)) for column in zip(*of_training, strict=True)]
    overall = np.sqrt(np.mean(np.concatenate([np.square(each).ravel() for each in rms])))
    trained = [weight.detach().double().numpy().copy() for weight in model.parameters()]
    found = [0.0]
    for segment in segments(len(sequence), stride):
        nll, slopes = gradients(ids, segment)
        found += nll.tolist()
        for weight, before, slope, size in zip(model.parameters(), trained, slopes, rms, strict=True):
            now = weight.detach().double().numpy()
            back = np.minimum(decay * size / overall, 1) * (before - now)
            step = rate * slope / (size + EPSILON * overall)
            with torch.no_grad():
                weight.copy_(torch.from_numpy(now + back - step))
    return np.array(found)


@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
@pytest.mark.parametrize("stride", [WINDOW, 5])
def test_it_is_the_published_update(kind, stride, ids, train_ids):
    model = make_model(kind)
    [score] = adapting(model, train_ids, stride=stride, learning_rate=3e-3, decay=0.02).score([ids])
    expected = written_out(model, ids, train_ids, stride, 3e-3, 0.02)
    assert score.scored.tolist() == [False] + [True] * (len(ids) - 1)
    assert score.nll == pytest.approx(expected, rel=1e-4, abs=1e-4)
    static = Scorer(model, WINDOW, stride).score([ids])[0].nll
    assert np.abs(score.nll - static).max() > 0.01


def test_without_steps_it_is_the_static_score(ids, train_ids):
    model = make_model()
    [score] = adapting(model, train_ids, stride=8, learning_rate=0.0, decay=0.1).score([ids])
    assert score.nll == pytest.approx(Scorer(model, WINDOW, 8).score([ids])[0].nll, abs=1e-5)


def test_a_later_token_changes_no_earlier_score(ids, train_ids):
    scorer = adapting(make_model(), train_ids, stride=8, learning_rate=3e-3, decay=0.01)
    changed = ids.copy()
    changed[90:] = (changed[90:] + 7) % 300
    [before], [after] = scorer.score([ids]), scorer.score([changed])
    assert before.nll[:90].tolist() == after.nll[:90].tolist()
    assert (before.nll[90:] != after.nll[90:]).all()


def test_the_weights_are_restored_also_if_it_is_interrupted(ids, train_ids):
    model = make_model("qwen3")
    before = deepcopy(model.state_dict())
    scorer = adapting(model, train_ids, stride=8, learning_rate=3e-3, decay=0.0)
    moved = []

    def interrupt(done: int, total: int) -> None:
        moved.append(any(not torch.equal(before[name], value) for name, value in model.state_dict().items()))
        if done > 60:
            raise KeyboardInterrupt

    [first] = scorer.score([ids])
    with pytest.raises(KeyboardInterrupt):
        scorer.score([ids], progress=interrupt)
    assert all(moved)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert scorer.score([ids])[0].nll.tolist() == first.nll.tolist()


def test_it_learns_a_text_that_repeats_itself(ids, train_ids):
    model = make_model()
    repeated = np.concatenate([ids[:40]] * 6)
    [score] = adapting(model, train_ids, stride=8, learning_rate=1e-2, decay=0.0).score([repeated])
    static = Scorer(model, WINDOW, 8).score([repeated])[0].nll
    assert score.nll[-40:].mean() < static[-40:].mean() - 1


def test_logits_that_are_taken_whole_give_the_same(ids, train_ids):
    model = make_model()
    parts = adapting(model, train_ids, stride=8, learning_rate=3e-3, decay=0.01)
    whole = DynamicScorer(**vars(parts) | {"plain_head": False})
    assert whole.score([ids])[0].nll == pytest.approx(parts.score([ids])[0].nll, abs=1e-4)


def test_it_adapts_under_autocast(ids, train_ids):
    model = make_model("qwen3")
    exact = adapting(model, train_ids, stride=8, learning_rate=1e-3, decay=0.01)
    rough = DynamicScorer(**vars(exact) | {"dtype": "bfloat16"})
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert rough.score([ids])[0].nll.mean() == pytest.approx(exact.score([ids])[0].nll.mean(), rel=0.02)
