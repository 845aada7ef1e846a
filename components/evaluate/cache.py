"""The continuous cache: the model's distribution is mixed with one over the tokens that followed similar states.

Grave, Joulin and Usunier 2017, Improving Neural Language Models with a Continuous Cache (arXiv:1612.04426). The hidden
states h of past positions are kept with the tokens x that followed them:

    p_cache(x | h_t) = sum of exp(flatness * cos(h_t, h_i)) over the i with x_i = x, divided by the sum over all i
    p = (1 - weight) * p_model + weight * p_cache

In the paper it is the dot product of the states of an LSTM. Here it is their cosine: the states of a transformer have
nearly equal lengths, which differ from model to model, and a flatness should mean the same for all models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from components.evaluate.scoring import Batch, Scorer, SequenceScore
from components.shared.model.head import head_in_float32

if TYPE_CHECKING:
    import torch

_QUERIES = 256  # the tokens that are compared with the cache at once
_BATCHES_PER_WORKER = 4  # computed ahead of the comparison, so that few states are in memory


@dataclass(frozen=True, kw_only=True)
class CacheScorer(Scorer):
    """A scorer that mixes the probabilities of the model with those of a continuous cache.

    The weights do not change, so windows are computed in parallel, and their states enter the cache in order.

    Attributes:
        size: the number of past tokens in the cache.
        flatness, weight: see the formulas above.
    """

    size: int
    flatness: float = 0.0
    weight: float = 0.0

    def score(
        self,
        sequences: Sequence[np.ndarray],
        *,
        rolling: bool = True,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[SequenceScore]:
        """Scores the windows of `Scorer.score`. The cache is empty at the beginning of each sequence."""
        scores = []
        for sequence in sequences:
            score, [cached] = self.compare(sequence, [self.flatness], rolling=rolling, progress=progress)
            scores.append(SequenceScore(mixed_nll(score.nll, cached, self.weight), score.scored))
        return scores

    def compare(
        self,
        sequence: np.ndarray,
        flatnesses: Sequence[float],
        *,
        rolling: bool = True,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> tuple[SequenceScore, np.ndarray]:
        """Computes the probabilities of the model and those of the cache, unmixed.

        Returns:
            The score by the model, and the log-probability of each token by the cache at each flatness, in nats,
            float64 [flatnesses, tokens]; NaN for a token before which the cache is empty, or that is not scored.
        """
        import torch

        windows = self.windows(sequence, rolling=rolling)
        score = SequenceScore(np.zeros(len(sequence)), np.zeros(len(sequence), dtype=bool))
        cached = np.full((len(flatnesses), len(sequence)), np.nan)
        past: tuple[torch.Tensor, torch.Tensor] | None = None
        done, total = 0, sum(window.end - window.scored for window in windows)
        with head_in_float32(self.model):
            for batch, (nll, states, tokens) in self._in_order(sequence, windows):
                places = np.concatenate([np.arange(window.scored, window.end) for *_, window in batch])
                score.nll[places], score.scored[places] = nll, True
                keys = states if past is None else torch.cat([past[0], states])
                values = tokens if past is None else torch.cat([past[1], tokens])
                cached[:, places] = cache_log_probabilities(keys, values, len(states), self.size, flatnesses)
                past = keys[-self.size :], values[-self.size :]
                done += len(nll)
                progress(done, total)
        return score, cached

    def _in_order(self, sequence: np.ndarray, windows: list) -> Iterator[tuple[Batch, tuple]]:
        longest = max((window.end - window.begin for window in windows), default=1)
        size = max(1, self.batch_tokens // longest)
        batches = [[(sequence, 0, window) for window in part] for part in _parts(windows, size)]
        for ahead in _parts(batches, self.workers * _BATCHES_PER_WORKER):
            yield from zip(ahead, self.in_parallel(self._score_with_states, ahead), strict=True)

    def _score_with_states(self, batch: Batch) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
        """Returns the likelihoods, the states at unit length [tokens, size], and the tokens that followed them."""
        import torch
        from torch.nn.functional import normalize

        with torch.inference_mode(), self.autocast():
            states, tokens = self.states(batch)
            nll = self.likelihood(states, tokens)
        with torch.inference_mode():
            return nll.double().cpu().numpy(), normalize(states.float(), dim=-1), tokens


def cache_log_probabilities(
    keys: torch.Tensor, values: torch.Tensor, queries: int, size: int, flatnesses: Sequence[float]
) -> np.ndarray:
    """Computes the log-probability of the last tokens of a text by the cache of the tokens before each of them.

    Args:
        keys: the states of all positions, of unit length, float32 [positions, size].
        values: the token that followed each state [positions].
        queries: the number of positions at the end whose tokens are predicted.
        size: the number of positions in the cache.
        flatnesses: the factors of the cosine.

    Returns:
        In nats, float64 [flatnesses, queries]; NaN where the cache is empty.
    """
    import torch

    found = np.zeros((len(flatnesses), queries))
    before = len(keys) - queries
    with torch.inference_mode():
        for start in range(0, queries, _QUERIES):
            end = min(start + _QUERIES, queries)
            first, last = max(0, before + start - size), before + end
            place = torch.arange(before + start, last, device=keys.device)[:, None]
            other = torch.arange(first, last, device=keys.device)
            inside = (other < place) & (other >= place - size)
            same = inside & (values[first:last] == values[before + start : last, None])
            cosine = keys[before + start : last] @ keys[first:last].T
            for index, flatness in enumerate(flatnesses):
                scores = (flatness * cosine).double()
                all_scores, own = (scores.masked_fill(~mask, -torch.inf).logsumexp(1) for mask in (inside, same))
                found[index, start:end] = (own - all_scores).cpu().numpy()
    return found


def mixed_nll(nll: np.ndarray, cached: np.ndarray, weight: float) -> np.ndarray:
    """Mixes the model with the cache; where the cache is empty the model stands alone.

    Args:
        nll: the negative log-likelihood by the model, in nats [tokens].
        cached: the log-probability by the cache, in nats, or NaN [tokens].
        weight: the weight of the cache, above 0 and below 1.
    """
    with np.errstate(invalid="ignore"):  # NaN in, NaN out
        both = np.logaddexp(np.log1p(-weight) - nll, np.log(weight) + cached)
    return np.where(np.isnan(cached), nll, -both)


def _parts(items: list, size: int) -> Iterator[list]:
    return (items[start : start + size] for start in range(0, len(items), size))
