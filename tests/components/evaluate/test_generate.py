"""Decoding stays within the context, and gives the same text with and without a cache, alone and in a batch."""

from __future__ import annotations

import pytest
import torch

from components.evaluate.generate import continue_batch, generate, greedy, sampling
from tests.components.evaluate.conftest import CONTEXT, make_model

PROMPTS = [[5, 9, 300], [0, 0, 17, 250, 33, 8, 120], list(range(40, 80))]


@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
def test_cached_and_uncached_greedy_output_agree(kind, tokenizer):
    model = make_model(kind)
    cached = continue_batch(model, tokenizer, PROMPTS, 20, greedy)
    uncached = continue_batch(model, tokenizer, PROMPTS, 20, greedy, use_cache=False)
    assert cached == uncached
    assert any(len(tokens) == 20 for tokens in cached)


@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
def test_a_prompt_is_continued_alike_alone_and_padded_in_a_batch(kind, tokenizer):
    model = make_model(kind)
    together = continue_batch(model, tokenizer, PROMPTS, 15, greedy)
    alone = [continue_batch(model, tokenizer, [prompt], 15, greedy)[0] for prompt in PROMPTS]
    assert together == alone


@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
def test_greedy_output_is_that_of_transformers(kind, tokenizer):
    model = make_model(kind, vocabulary=400)
    model.config.eos_token_id = None
    theirs = model.generate(
        torch.tensor([PROMPTS[2]]), max_new_tokens=20, do_sample=False, eos_token_id=None, pad_token_id=0
    )[0, 40:].tolist()
    [ours] = continue_batch(model, tokenizer, [PROMPTS[2]], 20, greedy)
    assert ours == theirs[: len(ours)]
    assert len(ours) == 20 or theirs[len(ours)] == tokenizer.eos_token_id


def test_positions_never_leave_the_context(model, tokenizer):
    seen = []
    hook = model.transformer.wpe.register_forward_hook(lambda module, args, out: seen.append(int(args[0].max())))
    try:
        [long] = continue_batch(model, tokenizer, [list(range(1, 200))], 30, greedy)
        [greedily] = continue_batch(model, tokenizer, [[5]], 10_000, greedy)
    finally:
        hook.remove()
    assert max(seen) < CONTEXT
    assert len(long) <= 30 and len(greedily) <= CONTEXT - 1


def test_the_end_of_a_prompt_counts_where_it_is_too_long(model, tokenizer):
    prompt = [token % 390 + 1 for token in range(300)]
    long = continue_batch(model, tokenizer, [prompt], 24, greedy)
    assert long == continue_batch(model, tokenizer, [prompt[-(CONTEXT - 24) :]], 24, greedy)


def test_a_seed_gives_one_text_and_another_seed_another(model, tokenizer):
    texts = [generate(model, tokenizer, "The castle", seed=seed, max_new_tokens=24) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_temperature_zero_is_greedy(model, tokenizer):
    [ids] = continue_batch(model, tokenizer, [tokenizer("The castle").input_ids], 12, greedy)
    assert generate(model, tokenizer, "The castle", temperature=0, max_new_tokens=12) == tokenizer.decode(ids)


def test_an_empty_prompt_starts_a_new_text(model, tokenizer):
    assert isinstance(generate(model, tokenizer, "", max_new_tokens=4), str)


def test_only_the_likeliest_tokens_are_drawn():
    logits = torch.tensor([[0.0, 5.0, 4.0, -1.0]]).repeat(200, 1)
    drawn = sampling(temperature=1.0, top_k=2, seed=0)(logits)
    assert set(drawn.tolist()) == {1, 2}


def test_tokens_beyond_the_vocabulary_are_never_chosen(tokenizer):
    padded = make_model(vocabulary=448)
    with torch.no_grad():
        padded.lm_head.weight[len(tokenizer) :] *= 100
    [tokens] = continue_batch(padded, tokenizer, [[5, 9, 300]], 20, greedy)
    assert all(token < len(tokenizer) for token in tokens)
