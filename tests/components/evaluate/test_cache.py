"""The continuous cache agrees with the formulas of its publication, written out token by token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from components.evaluate import cache
from components.evaluate.cache import CacheScorer, mixed_nll
from components.evaluate.perplexity import encode_text
from components.evaluate.scoring import Scorer
from tests.components.evaluate.conftest import make_model

WINDOW, STRIDE = 16, 8
FLATNESS, WEIGHT = 6.0, 0.3


@pytest.fixture(scope="module")
def ids(tokenizer, texts) -> np.ndarray:
    return encode_text(texts["test"], tokenizer, 0)[:220]


def cached(model: Any, *, size: int = 50, **values: Any) -> CacheScorer:
    scorer = Scorer(model, WINDOW, STRIDE, **values)
    return CacheScorer(**vars(scorer), size=size, flatness=FLATNESS, weight=WEIGHT)


def written_out(model: Any, sequence: np.ndarray, size: int) -> list[float]:
    """Grave et al. 2017, equations 2 and 3 with the cosine, over the whole vocabulary for each token."""
    kept: list[tuple[torch.Tensor, int]] = []
    found, done = [0.0], 1
    while done < len(sequence):
        end = min(max(WINDOW + 1, done + STRIDE), len(sequence))
        begin = max(0, end - WINDOW - 1)
        with torch.no_grad():
            output = model(torch.from_numpy(sequence[None, begin : end - 1]), output_hidden_states=True)
        for place in range(done, end):
            probabilities = output.logits[0, place - 1 - begin].double().softmax(-1)
            state = output.hidden_states[-1][0, place - 1 - begin].double()
            if memory := kept[-size:]:
                similar = torch.stack([torch.cosine_similarity(state, other, dim=0) for other, _ in memory])
                by_cache = torch.zeros_like(probabilities)
                for value, (_, token) in zip((FLATNESS * similar).exp(), memory, strict=True):
                    by_cache[token] += value
                by_cache /= by_cache.sum()
                probabilities = (1 - WEIGHT) * probabilities + WEIGHT * by_cache
            assert float(probabilities.sum()) == pytest.approx(1)
            found.append(-float(probabilities[sequence[place]].log()))
            kept.append((state, int(sequence[place])))
        done = end
    return found


@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
@pytest.mark.parametrize("size", [1, 50, 1000])
def test_it_is_the_published_mixture(kind, size, ids):
    model = make_model(kind)
    [score] = cached(model, size=size).score([ids])
    assert score.scored.tolist() == [False] + [True] * (len(ids) - 1)
    assert score.nll == pytest.approx(written_out(model, ids, size), rel=1e-5, abs=1e-5)


def test_batches_workers_and_blocks_change_nothing(ids, monkeypatch):
    model = make_model()
    expected = cached(model).score([ids])[0].nll
    monkeypatch.setattr(cache, "_QUERIES", 7)
    for values in ({"batch_tokens": 17}, {"batch_tokens": 60, "workers": 2}):
        assert cached(model, **values).score([ids])[0].nll == pytest.approx(expected, abs=1e-5)


def test_a_later_token_changes_no_earlier_score(ids):
    scorer = cached(make_model())
    changed = ids.copy()
    changed[100:] = (changed[100:] + 7) % 300
    [before], [after] = scorer.score([ids]), scorer.score([changed])
    assert before.nll[:100].tolist() == pytest.approx(after.nll[:100].tolist(), abs=1e-6)
    assert (np.abs(before.nll[100:] - after.nll[100:]) > 1e-6).all()


def test_each_sequence_begins_with_an_empty_cache(ids):
    scorer = cached(make_model())
    [alone], [_, second] = scorer.score([ids]), scorer.score([ids[::-1].copy(), ids])
    assert second.nll.tolist() == alone.nll.tolist()


def test_a_token_that_the_cache_does_not_know_costs_the_logarithm_of_the_weight():
    nll = np.array([2.0, 2.0, 2.0])
    found = mixed_nll(nll, np.array([np.nan, -np.inf, np.log(0.5)]), 0.2)
    assert found == pytest.approx([2.0, 2.0 - np.log(0.8), -np.log(0.8 * np.exp(-2.0) + 0.2 * 0.5)])


def test_an_empty_text_has_no_scores():
    [score] = cached(make_model()).score([np.array([0])])
    assert score.nll.tolist() == [0] and not score.scored.any()
