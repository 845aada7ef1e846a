"""A model with a prefix gives the same results as peft's own class."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PrefixTuningConfig, get_peft_model

from components.evaluate.generate import continue_batch, greedy
from components.evaluate.prefix import Prefixed
from components.evaluate.scoring import Scorer, context_of
from tests.components.evaluate.conftest import make_model

LENGTH = 3


@pytest.fixture(params=["gpt2", "qwen3"])
def models(request: pytest.FixtureRequest, tmp_path: Path):
    """The model with its prefix, once in peft's class and once loaded from the folder."""
    adapted = get_peft_model(
        make_model(request.param), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=LENGTH)
    )
    torch.manual_seed(3)
    with torch.no_grad():
        adapted.prompt_encoder["default"].embedding.weight.normal_(std=3.0)
    adapted.save_pretrained(tmp_path, save_embedding_layers=False)
    return adapted.eval(), Prefixed(make_model(request.param), tmp_path).eval()


def test_the_prefix_is_read_and_takes_its_share_of_the_context(models) -> None:
    adapted, prefixed = models
    ids = torch.arange(24).reshape(2, 12)
    with torch.inference_mode():
        expected, plain = adapted(input_ids=ids).logits, adapted.get_base_model()(input_ids=ids).logits
        assert torch.allclose(prefixed(input_ids=ids).logits, expected, atol=1e-5)
    assert not torch.allclose(plain, expected, atol=1e-2)
    assert context_of(prefixed) == context_of(adapted.get_base_model()) - LENGTH


def test_windows_of_unlike_length_score_as_one_by_one(models) -> None:
    adapted, prefixed = models
    sequences = [torch.arange(5, 5 + length).numpy() for length in (20, 13)]
    scores = Scorer(prefixed, window=32, stride=32, plain_head=False).score(sequences)
    for sequence, score in zip(sequences, scores, strict=True):
        ids = torch.from_numpy(sequence)
        with torch.inference_mode():
            logits = adapted(input_ids=ids[None, :-1]).logits[0]
        wanted = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none")
        assert score.nll[1:] == pytest.approx(wanted.numpy(), abs=1e-4)


def test_cached_and_uncached_greedy_text_agree(models, tokenizer) -> None:
    _, prefixed = models
    prompts = [[5, 6, 7, 8], [9, 10]]
    cached, fresh = (
        continue_batch(prefixed, tokenizer, prompts, 6, greedy, use_cache=use_cache) for use_cache in (True, False)
    )
    assert cached == fresh
