"""The output layer of a model: whether it is linear, its computation in float32, and the likelihood by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# Rows and entries of the vocabulary whose logits are computed at once: on a CPU they fit in the cache of a core.
_CPU_BLOCK, _GPU_BLOCK = (512, 512), (8192, 8192)


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


def negative_log_likelihood(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The negative log-likelihood (nats) of tokens by a linear output layer, always computed in float32.

    All logits of a few hundred tokens exceed the cache of a CPU, and `cross_entropy` reads them several times. Here the
    sum over the vocabulary is made of the sums over its blocks.

    Args:
        hidden: the last hidden states, shape (tokens, hidden size).
        weight: the matrix of the output layer, shape (vocabulary, hidden size).
        targets: the token ids, int64, shape (tokens,).

    Returns:
        float32, shape (tokens,).
    """
    import torch
    from torch.nn.functional import embedding, linear

    rows, columns = _CPU_BLOCK if hidden.device.type == "cpu" else _GPU_BLOCK
    blocks = weight.split(columns)
    found = []
    with torch.autocast(hidden.device.type, enabled=False):
        for part, wanted in zip(hidden.float().split(rows), targets.split(rows), strict=True):
            sums = torch.stack([torch.logsumexp(linear(part, block), dim=1) for block in blocks], dim=1)
            logit = (part * embedding(wanted, weight)).sum(dim=1)
            found.append(torch.logsumexp(sums, dim=1) - logit)
    return torch.cat(found) if found else hidden.new_zeros(0, dtype=torch.float32)


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
