"""The output layer of a model: whether it is linear, and its computation in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def has_linear_lm_head(model: Any) -> bool:
    """Whether a model's logits are exactly the matrix of its output layer times its last hidden state.

    Some architectures add a bias to the logits, or cap or scale them.
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
    """Makes the output layer compute in float32 within the block, also under autocast.

    Autocast would round the logits to bfloat16, whose spacing is 1/16 for logits of usual size. That is a bias of up to
    0.01 nats per token, twice the margin of the gate. Enter the block in one thread, around all calls of the model.

    Args:
        model: a causal language model with float32 weights; one without an output layer is not changed.
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
