"""A model's output layer: what can be known of it, and its precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def has_linear_lm_head(model: Any) -> bool:
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


@contextmanager
def head_in_float32(model: Any) -> Iterator[None]:
    """For the length of the block the output layer multiplies in float32, also inside autocast.

    Autocast would round the logits to bfloat16, whose steps are 1/16 at the size of usual logits: a bias of up to
    0.01 nats a token, twice the margin of the gate. Use it in one thread, around all that call the model.

    Args:
        model: a causal language model with float32 weights; one without an output layer of its own stays as it is.
    """
    import torch

    head = model.get_output_embeddings()
    if head is None:
        yield
        return
    forward = head.forward

    def in_float32(hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return forward(hidden.float())

    head.forward = in_float32
    try:
        yield
    finally:
        del head.forward
