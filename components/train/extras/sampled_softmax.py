"""The tokens among which those of a step are told apart, where that is not the whole vocabulary.

The softmax of a small model over a large vocabulary is most of its work. Over the targets of the step and a sample of
all other tokens it is cheap whatever the vocabulary is, and larger vocabularies make shorter texts. Every logit is
lowered by the logarithm of the chance that its token is in the sample, which makes the sum over the sample an estimate
of the sum over all (Bengio and Senécal 2008; Jean et al. 2015). Validation, evaluation and use have the whole softmax.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from components.shared.base.failure import ExitCode, Failure
from components.train.data import TrainOrder, seed_of
from components.train.settings import TrainSettings

# Marks the targets that have no place in a full sample; `cross_entropy` leaves them out.
_LEFT_OUT = -100


class Candidates(NamedTuple):
    """The sample of one step.

    Attributes:
        ids: of the tokens, ascending, int64, shape (candidates,).
        places: where each token of the vocabulary stands among them, int64, shape (vocabulary,).
        corrections: what is added to their logits, float32, shape (candidates,).
    """

    ids: Tensor
    places: Tensor
    corrections: Tensor


class Sampler:
    """Draws the candidates of a step: its targets and, up to a number, others that are all equally probable.

    The seed and the step alone decide, so that a training that is gone on from draws the same, and every process too.

    Args:
        counts: how often each token stands in the train split; the padding of the vocabulary is never drawn.
        size: candidates a step, fewer than `counts`.
        targets: tokens a step.
        seed: of the draw.
        device: where the candidates are needed; nothing waits for it.

    Raises:
        Failure: the targets of a step are expected to fill the sample.
    """

    def __init__(self, counts: np.ndarray, *, size: int, targets: int, seed: int, device: torch.device):
        self.vocab_size, self.size, self.seed, self.device = len(counts), size, seed, device
        is_target = 1 - (1 - counts / counts.sum()) ** targets
        expected = is_target.sum()
        if expected >= size:
            raise Failure(
                f"A step of {targets} tokens is expected to have {expected:.0f} different ones,"
                f" which leaves nothing of {size} candidates to be drawn",
                where="train.sampled_softmax",
                remedy=f"set it to {targets}, or to null for the whole vocabulary of {self.vocab_size}",
                exit_code=ExitCode.USAGE,
            )
        chance = is_target + (1 - is_target) * (size - expected) / (self.vocab_size - expected)
        self.corrections = torch.from_numpy(-np.log(chance)).float().to(device)
        self.generator = torch.Generator(device)

    def draw(self, step: int, targets: Tensor) -> Candidates:
        """The candidates of a step.

        Should there be more different targets than candidates, chance decides which of them the loss leaves out.

        Args:
            step: counted from 0.
            targets: ids of the whole step, over all processes and parts, int64, any shape.
        """
        self.generator.manual_seed(seed_of(self.seed, step))
        priority = torch.rand(self.vocab_size, generator=self.generator, device=self.device)
        priority[targets.flatten()] += 1
        ids = priority.topk(self.size, sorted=False).indices.sort().values
        places = torch.full((self.vocab_size,), _LEFT_OUT, device=self.device)
        places[ids] = torch.arange(self.size, device=self.device)
        return Candidates(ids, places, self.corrections[ids])


def candidates_a_step(settings: TrainSettings, vocab_size: int) -> int | None:
    """How many tokens a step tells its targets apart from; None for the whole vocabulary."""
    size = settings.sampled_softmax
    return None if size is None or size >= vocab_size else size


def candidates_by_step(
    order: TrainOrder, vocab_size: int, settings: TrainSettings
) -> Callable[[int], Candidates | None]:
    """Gives the candidates of a step counted from 0, the same to all its parts; None for the whole vocabulary."""
    size = candidates_a_step(settings, vocab_size)
    if size is None:
        return lambda step: None
    sampler = Sampler(
        order.split.counts(vocab_size),
        size=size,
        targets=order.batch * order.block,
        seed=settings.seed,
        device=order.device,
    )

    @lru_cache(maxsize=1)
    def drawn(step: int) -> Candidates:
        return sampler.draw(step, order.inputs_and_targets(step)[1])

    return drawn
