"""What can be known of a model's output layer."""

from __future__ import annotations

from typing import Any


def has_plain_head(model: Any) -> bool:
    """Whether a model's logits are its output layer applied to its last hidden state; some cap or scale them."""
    import torch

    ids = torch.arange(4, device=model.device)[None]
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False).logits
        hidden = getattr(model.base_model(input_ids=ids, use_cache=False), "last_hidden_state", None)
        head = model.get_output_embeddings()
        return hidden is not None and head is not None and torch.equal(head(hidden), logits)
