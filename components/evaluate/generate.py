"""Generates text with a batched decoding loop that never exceeds the model's context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from components.evaluate.scoring import context_of

if TYPE_CHECKING:
    import torch

Choice = Callable[["torch.Tensor"], "torch.Tensor"]


def generate(
    model: Any,
    tokenizer: Any,
    prompt: str,
    *,
    max_new_tokens: int = 80,
    temperature: float = 0.8,
    top_k: int | None = 40,
    seed: int = 0,
    context: int | None = None,
) -> str:
    """Continues a prompt.

    Args:
        model: a causal language model of transformers.
        tokenizer: its fast tokenizer.
        prompt: the text to continue; an empty prompt starts a new text. Only the end of a too long prompt is used.
        max_new_tokens: the maximum number of new tokens, which the context also limits. Generation ends earlier at the
            end-of-text token.
        temperature: the sampling temperature; 0 chooses the most probable token each time.
        top_k: the number of most probable tokens that are sampled from; None samples from all tokens.
        seed: the seed of the sampling.
        context: the maximum number of tokens of prompt and continuation; None uses the limit of the model's config.

    Returns:
        The continuation, without the prompt.
    """
    ids = tokenizer.backend_tokenizer.encode(prompt, add_special_tokens=False).ids or [tokenizer.eos_token_id]
    choose = greedy if temperature == 0 else sampling(temperature=temperature, top_k=top_k, seed=seed)
    [continuation] = continue_batch(model, tokenizer, [ids], max_new_tokens, choose, context=context)
    return tokenizer.decode(continuation, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def continue_batch(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    choose: Choice,
    *,
    context: int | None = None,
    use_cache: bool = True,
) -> list[list[int]]:
    """Continues several prompts at once. Shorter prompts are padded on the left.

    Args:
        prompts: the token ids of each prompt, at least one per prompt.
        choose: a function from logits (prompts x vocabulary) to the next token of each prompt.
        context: the maximum number of tokens of prompt and continuation; None uses the limit of the model's config.
        use_cache: whether keys and values are kept between tokens. The text is the same without the cache.

    Returns:
        The new tokens of each prompt, without the end-of-text token.
    """
    import torch

    context = context or context_of(model)
    new_tokens = max(0, min(max_new_tokens, context - 1))
    kept = [list(prompt)[-(context - new_tokens) :] for prompt in prompts]
    end, longest = tokenizer.eos_token_id, max(map(len, kept))
    ids = torch.tensor([[end] * (longest - len(prompt)) + prompt for prompt in kept], device=model.device)
    # The mask comes from the lengths because a prompt may contain the padding token.
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in kept], device=model.device)
    past, ended = None, torch.zeros(len(kept), dtype=torch.bool)
    with torch.inference_mode():
        for _ in range(new_tokens):
            positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
            fresh = 1 if past is not None else ids.shape[1]
            output = model(
                input_ids=ids[:, -fresh:],
                attention_mask=mask,
                position_ids=positions[:, -fresh:],
                cache=past,
                use_cache=use_cache,
                logits_to_keep=1,
            )
            past = output.cache if use_cache else None
            # The output layer may be padded beyond the vocabulary, and those ids cannot be decoded.
            chosen = choose(output.logits[:, -1, : len(tokenizer)].float().cpu())
            ended |= chosen == end
            ids = torch.cat([ids, chosen[:, None].to(ids.device)], dim=1)
            mask = torch.cat([mask, mask.new_ones(len(kept), 1)], dim=1)
            if ended.all():
                break
    return [_until(end, row[longest:]) for row in ids.tolist()]


def greedy(logits: torch.Tensor) -> torch.Tensor:
    """Chooses the most probable token of each row."""
    return logits.argmax(dim=-1)


def sampling(*, temperature: float, top_k: int | None, seed: int) -> Choice:
    """Samples from the `top_k` most probable tokens, on the CPU, so that a seed gives the same text on every device."""
    import torch

    random = torch.Generator().manual_seed(seed)

    def choose(logits: torch.Tensor) -> torch.Tensor:
        values, tokens = logits.topk(min(top_k or logits.shape[-1], logits.shape[-1]), dim=-1)
        drawn = torch.multinomial(torch.softmax(values / temperature, dim=-1), 1, generator=random)
        return tokens.gather(1, drawn)[:, 0]

    return choose


def _until(end: int, tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens
