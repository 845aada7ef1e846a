"""Embeddings of which a training step computes only the rows of its sampled-softmax candidates.

All tokens of a step are among its candidates, so no other row of the input embedding and of the output layer has a
gradient. While the model trains, it holds matrices of only these rows, and gradient, clipping, reduction and optimizer
cost the same for every vocabulary. The whole matrices and the state of their optimizer stay outside of the model.

The optimizer is AdamW. It also moves rows without a gradient, by their momentum, so what a row has missed is made up
for when it is loaded. The sum of the missed updates depends on the row only by its moments, and is exact for a learning
rate that changes linearly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from components.train.data import TrainBatches
from components.train.extras.sampled_softmax import Candidates, CandidateSampler, candidate_sampler
from components.train.settings import TrainSettings

_EPS = 1e-8
# A momentum that has fallen to this part of its first value moves a row no more.
_FADED = 1e-3


class CandidateRows(Optimizer):
    """AdamW for the input embedding and the output layer of a model, by the rows of the candidates of each step.

    `load` replaces the rows in the model, `step` updates them, and within `whole_matrices` the model is complete. It is
    complete too after `with rows:`, however the block ends.

    The state of the optimizer has, beside AdamW's moments of each matrix, for each row the number of the last step
    whose update it has (`updated`, counted from 1; 0 for none) and the learning rate of that step (`rate`).

    Args:
        model: the model; tied embeddings are one matrix.
        sampler: draws the candidates.
        settings: `learning_rate`, `beta1` and `beta2`; there is no weight decay.
    """

    def __init__(self, model: Any, sampler: CandidateSampler, settings: TrainSettings):
        modules = [model.get_input_embeddings(), model.get_output_embeddings()]
        whole = list({id(module.weight): module.weight for module in modules}.values())
        betas = (float(settings.beta1), float(settings.beta2))
        super().__init__(whole, {"lr": settings.learning_rate, "betas": betas})
        self.sampler, self.modules, self.number = sampler, modules, 0
        self.whole = {id(weight): weight for weight in whole}
        # One row more, of zeros, stands for tokens of a step that did not fit among the candidates.
        self.resident = {
            key: nn.Parameter(weight.new_zeros(sampler.size + 1, weight.shape[1])) for key, weight in self.whole.items()
        }
        self.of_module = [id(module.weight) for module in modules]
        for weight in whole:
            self.state[weight] = {name: torch.zeros_like(weight.detach()) for name in ("exp_avg", "exp_avg_sq")}
        self.last = self.state[whole[0]]  # all matrices have the updates of the same steps, so one state says which
        self.last |= {name: weight.new_zeros(len(weight), 1).detach() for name in ("updated", "rate")}
        self._install(self.resident)

    @classmethod
    def of(cls, model: Any, batches: TrainBatches, vocab_size: int, settings: TrainSettings) -> CandidateRows | None:
        """The rows of a model that is trained by a sampled softmax; None for the whole vocabulary."""
        sampler = candidate_sampler(batches, vocab_size, settings)
        return None if sampler is None else cls(model, sampler, settings)

    @torch.no_grad()
    def load(self, step: int, inputs: Tensor, targets: Tensor) -> Candidates:
        """Draws the candidates of a step, counted from 0, and loads their rows into the model."""
        candidates = self.sampler.draw(step, inputs, targets)
        self.number, self.ids = step + 1, candidates.ids
        self._catch_up(self.ids, until=step)
        for key, weight in self.whole.items():
            torch.index_select(weight, 0, self.ids, out=self.resident[key][:-1])
        return candidates

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Updates the rows that are loaded, by their gradients; the closure is not used."""
        (group,) = self.param_groups
        beta1, beta2 = group["betas"]
        correction1, correction2 = 1 - beta1**self.number, 1 - beta2**self.number
        for key, weight in self.whole.items():
            resident, state = self.resident[key], self.state[weight]
            assert resident.grad is not None
            gradient = resident.grad[:-1]
            momentum = state["exp_avg"].index_select(0, self.ids).lerp_(gradient, 1 - beta1)
            square = state["exp_avg_sq"].index_select(0, self.ids).mul_(beta2)
            square.addcmul_(gradient, gradient, value=1 - beta2)
            scale = (square / correction2).sqrt_().add_(_EPS)
            weight.index_copy_(0, self.ids, resident[:-1].addcdiv(momentum, scale, value=-group["lr"] / correction1))
            state["exp_avg"].index_copy_(0, self.ids, momentum)
            state["exp_avg_sq"].index_copy_(0, self.ids, square)
        self.last["updated"].index_fill_(0, self.ids, self.number)
        self.last["rate"].index_fill_(0, self.ids, group["lr"])

    @contextmanager
    def whole_matrices(self) -> Iterator[None]:
        """Gives the model its whole matrices within the block, as they are after the last step."""
        self.release()
        try:
            yield
        finally:
            self._install(self.resident)

    def release(self) -> None:
        """Gives the model its whole matrices for good, as they are after the last step."""
        updated = self.last["updated"]
        self._catch_up(torch.arange(len(updated), device=updated.device), until=self.number)
        self._install(self.whole)

    def __enter__(self) -> CandidateRows:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()

    @torch.no_grad()
    def _catch_up(self, ids: Tensor, *, until: int) -> None:
        """Moves rows as AdamW would have done since their last gradient, up to and including a step."""
        (group,) = self.param_groups
        beta1, beta2 = group["betas"]
        updated, rate = (self.last[name].index_select(0, ids) for name in ("updated", "rate"))
        missed = (until - updated).clamp(min=0)
        scale = missed_updates(updated, missed, (rate, group["lr"]), group["betas"])
        for weight in self.whole.values():
            state = self.state[weight]
            momentum, square = (state[name].index_select(0, ids) for name in ("exp_avg", "exp_avg_sq"))
            moved = (scale * momentum).div_(square.sqrt().add_(_EPS))
            weight.index_copy_(0, ids, weight.index_select(0, ids).sub_(moved))
            state["exp_avg"].index_copy_(0, ids, momentum.mul_(beta1**missed))
            state["exp_avg_sq"].index_copy_(0, ids, square.mul_(beta2**missed))
        self.last["updated"].index_copy_(0, ids, updated + missed)
        self.last["rate"].index_fill_(0, ids, group["lr"])

    def _install(self, weights: dict[int, nn.Parameter]) -> None:
        for module, key in zip(self.modules, self.of_module, strict=True):
            module.weight = weights[key]


def missed_updates(updated: Tensor, missed: Tensor, rates: tuple[Tensor, float], betas: tuple[float, float]) -> Tensor:
    """The sum of the updates that follow a gradient, in units of momentum over the root of the second moment.

    Args:
        updated: the number of the step with the gradient, counted from 1, shape (rows, 1).
        missed: the number of steps after it, shape (rows, 1).
        rates: the learning rates of that step, shape (rows, 1), and of the step after the missed ones.
        betas: the betas of Adam, whose bias corrections the sum includes.
    """
    (then, now), (beta1, beta2) = rates, betas
    count = math.ceil(math.log(_FADED) / math.log(beta1)) if beta1 else 0
    after = torch.arange(1, count + 1, device=updated.device, dtype=updated.dtype)
    rate = then + (now - then) * after / (missed + 1)
    terms = (beta1 / beta2**0.5) ** after * (1 - beta2 ** (updated + after)).sqrt() / (1 - beta1 ** (updated + after))
    return (rate * terms * (after <= missed)).sum(dim=1, keepdim=True)
