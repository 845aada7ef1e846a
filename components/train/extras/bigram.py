"""Initial embeddings from bigram counts of the train split.

A short training spends many of its tokens on statistics that can be counted in seconds: which token follows which, and
which tokens are similar in that. A factorization of these counts to the hidden size gives the input and output
embeddings. As long as the layers between them add nothing, the model is a bigram model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from torch import Tensor, nn

# Pairs at most this far apart are counted, a pair at distance k as 1 / k; distance 2 smooths distance 1.
_WINDOW = 2
# The weight of the token frequency, which all rows have in common: with weight 1 it would dominate every vector.
_FREQUENCY = 0.3
# The mean length of a vector, large enough that the first steps of an optimizer do not erase it.
_LENGTH = 2.0
_ITERATIONS = 4
# A longer text would add little about frequent tokens, and would fill the memory.
TOKENS = 10_000_000
_SAMPLE = 512


@torch.no_grad()
def init_embeddings_from_bigrams(model: Any, ids: np.ndarray, *, vocab_size: int, seed: int) -> None:
    """Initializes the embeddings of a model from token ids. With an untied output layer it is a bigram model then.

    Tied embeddings cannot distinguish the previous token from the next one. They are initialized with the similarity of
    tokens, counted in both directions, and the layers between are not changed. The gain of the last norm is chosen so
    that a sample of the text is most probable.

    Args:
        model: a Hugging Face model; the rows of padding are not changed.
        ids: the token ids of the train split, shape (tokens,); the first ten million are read.
        vocab_size: the size of the tokenizer's vocabulary.
        seed: the seed of the factorization.
    """
    ids = ids[:TOKENS].astype(np.int64)
    embedding, output = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    tied = embedding is output
    inputs, outputs = bigram_factors(
        ids, vocab_size=vocab_size, width=model.config.hidden_size, seed=seed, both_ways=tied
    )
    if tied:
        outputs = inputs
    embedding[:vocab_size], output[:vocab_size] = inputs, outputs
    gain = _best_gain(inputs, outputs, torch.from_numpy(ids[: _SAMPLE + 1]))
    for name, module in model.named_modules():
        if name in ("model.norm", "transformer.ln_f"):
            nn.init.constant_(module.weight, gain)
        if not tied and name.endswith(("o_proj", "down_proj", "c_proj")):  # the outputs of the residual branches
            nn.init.zeros_(module.weight)


def bigram_factors(
    ids: np.ndarray, *, vocab_size: int, width: int, seed: int, both_ways: bool = False
) -> tuple[Tensor, Tensor]:
    """Two sets of vectors whose products approximate log p(next | current), up to a factor and a common offset.

    They are a truncated singular value decomposition, singular values shared evenly, of positive pointwise mutual
    information (Levy and Goldberg 2014), smoothed by the power 0.75 (Levy, Goldberg and Dagan 2015), plus the logarithm
    of frequencies; found by subspace iteration (Halko, Martinsson and Tropp 2011).

    Args:
        ids: token ids, int64, shape (tokens,).
        vocab_size: the size of the tokenizer's vocabulary.
        width: the hidden size of the model.
        seed: the seed of the first guess.
        both_ways: count neighbours before and after, without frequencies; then both sets are equal except for signs.

    Returns:
        Input and output vectors, float32, each of shape (vocab_size, width) and of mean length 2.
    """
    rows, columns, information = _mutual_information(ids, vocab_size, both_ways=both_ways)
    forth = _sparse(rows, columns, information, vocab_size)
    back = _sparse(columns, rows, information, vocab_size)
    frequency = torch.from_numpy(np.log1p(np.bincount(ids, minlength=vocab_size))).float()
    frequency = (0.0 if both_ways else _FREQUENCY) * (frequency - frequency.mean())

    right = torch.randn(vocab_size, min(width, vocab_size), generator=torch.Generator().manual_seed(seed))
    image = forth @ right + frequency @ right
    for _ in range(_ITERATIONS):
        # Q has the rows of a column beside each other, with which a sparse product takes ten times as long.
        left = torch.linalg.qr(image).Q.contiguous()
        right = torch.linalg.qr(back @ left + torch.outer(frequency, left.sum(dim=0))).Q.contiguous()
        image = forth @ right + frequency @ right
    u, values, vh = torch.linalg.svd(left.T @ image)
    factors = (left @ u * values.sqrt(), right @ vh.T * values.sqrt())
    padded = [F.pad(factor, (0, width - factor.shape[1])) for factor in factors]
    inputs, outputs = (factor * (_LENGTH / factor.norm(dim=1).mean().clamp(min=1e-12)) for factor in padded)
    return inputs, outputs


def _mutual_information(
    ids: np.ndarray, vocab_size: int, *, both_ways: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and values of the positive part of log(p(i, j) / p(i) p(j)), i before j."""
    pairs, counts = [], []
    for distance in range(1, _WINDOW + 1):
        before, after = ids[:-distance], ids[distance:]
        found = before * vocab_size + after
        if both_ways:
            found = np.concatenate([found, after * vocab_size + before])
        pair, count = np.unique(found, return_counts=True)
        pairs.append(pair)
        counts.append(count / distance)
    pair, position = np.unique(np.concatenate(pairs), return_inverse=True)
    weights = np.bincount(position, weights=np.concatenate(counts))
    joint = weights / weights.sum()
    rows, columns = np.divmod(pair, vocab_size)
    single = np.bincount(ids, minlength=vocab_size) / len(ids)
    smoothed = np.sqrt(single * single**0.75 / (single**0.75).sum())
    information = np.log(joint / (smoothed[rows] * smoothed[columns]))
    positive = information > 0
    return rows[positive], columns[positive], information[positive]


def _sparse(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, size: int) -> Tensor:
    indices = torch.from_numpy(np.stack([rows, columns]))
    return torch.sparse_coo_tensor(
        indices, torch.from_numpy(values).float(), (size, size), check_invariants=False
    ).coalesce()


def _best_gain(inputs: Tensor, outputs: Tensor, sample: Tensor) -> float:
    """The gain of the norm between them that makes a sample of the text most probable."""
    logits = F.rms_norm(inputs[sample[:-1]], inputs.shape[1:]) @ outputs.T
    gains = torch.logspace(-2, 0, 21).tolist()
    return min(gains, key=lambda gain: F.cross_entropy(gain * logits, sample[1:]).item())
