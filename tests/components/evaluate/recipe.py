"""The sliding window of the transformers documentation, "Perplexity of fixed-length models"."""

from __future__ import annotations

import math
from typing import Any

import torch


def published_recipe(model: Any, ids: torch.Tensor, max_length: int, stride: int) -> float:
    """The perplexity of a sequence of token ids, [1, tokens]."""
    nll_sum, n_tokens, prev_end_loc, seq_len = 0.0, 0, 0, ids.size(1)
    for begin_loc in range(0, seq_len, stride):
        end_loc = min(begin_loc + max_length, seq_len)
        trg_len = end_loc - prev_end_loc
        input_ids = ids[:, begin_loc:end_loc]
        target_ids = input_ids.clone()
        target_ids[:, :-trg_len] = -100
        with torch.no_grad():
            neg_log_likelihood = model(input_ids, labels=target_ids).loss
        num_loss_tokens = int((target_ids != -100).sum()) - target_ids.size(0)
        nll_sum += float(neg_log_likelihood) * num_loss_tokens
        n_tokens += num_loss_tokens
        prev_end_loc = end_loc
        if end_loc == seq_len:
            break
    return math.exp(nll_sum / n_tokens)
