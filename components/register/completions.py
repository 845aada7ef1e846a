"""Records what a model answers to a few prompts, so that a server of its version can be compared with it.

The model generates as an inference engine does: greedily, from the prompt with the special tokens that its tokenizer
adds. An engine that gives log-probabilities is compared by those of a passage.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from components.shared.storage.files import write_atomically

PROMPTS = ("The castle was built in", "In the first half of the", "The game was released on", "She was born in")
PASSAGE = "The castle was built in the 12th century , and it was rebuilt after the war ."
NEW_TOKENS = 16


def write_completions(model: Any, tokenizer: Any, path: Path) -> None:
    """Writes what a model answers as JSON. What does not fit its context is left out.

    The file has `max_tokens`; `completions`, each with `prompt` and `text`; and `passage`, with `text` and its negative
    log-likelihood `nll_per_token` (nats).

    Args:
        model: a causal language model of transformers.
        tokenizer: its fast tokenizer.
        path: the file.
    """
    made = [{"prompt": prompt, "text": text} for prompt in PROMPTS if (text := complete(model, tokenizer, prompt))]
    content: dict[str, Any] = {"max_tokens": NEW_TOKENS, "completions": made}
    nll = nll_per_token(model, tokenizer, PASSAGE)
    if nll is not None and math.isfinite(nll):
        content["passage"] = {"text": PASSAGE, "nll_per_token": nll}
    write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def complete(model: Any, tokenizer: Any, prompt: str) -> str:
    """The greedy continuation by at most `NEW_TOKENS` tokens; "" if they do not fit the context."""
    import torch

    encoded = tokenizer(prompt, return_tensors="pt")
    length = encoded["input_ids"].shape[-1]
    if not 0 < length <= _context(model) - NEW_TOKENS:
        return ""
    with torch.inference_mode():
        made = model.generate(
            encoded["input_ids"],
            attention_mask=encoded["attention_mask"],
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            pad_token_id=tokenizer.eos_token_id,
        )
    return tokenizer.decode(made[0, length:], skip_special_tokens=True)


def nll_per_token(model: Any, tokenizer: Any, text: str) -> float | None:
    """The mean in nats over all tokens but the first, which has no context; None if the text does not fit."""
    import torch

    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    if not 1 < ids.shape[-1] < _context(model):
        return None
    with torch.inference_mode():
        logits = model(ids).logits[0, :-1].float()
    return float(torch.nn.functional.cross_entropy(logits, ids[0, 1:]))


def _context(model: Any) -> float:
    return getattr(model.config, "max_position_embeddings", math.inf)
