"""What can be known of a model's output layer."""

from __future__ import annotations

from typing import Any


def has_plain_head(model: Any) -> bool:
    """Whether a model's logits are the matrix of its output layer times its last hidden state, and nothing else.

    Some architectures add a bias to them, or cap or scale them.
    """
    import torch

    ids = torch.arange(4, device=model.device)[None]
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False).logits
        hidden = getattr(model.base_model(input_ids=ids, use_cache=False), "last_hidden_state", None)
        head = model.get_output_embeddings()
        if hidden is None or head is None or getattr(head, "bias", None) is not None:
            return False
        return torch.equal(head(hidden), logits)
