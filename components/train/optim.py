"""Optimizers, the learning rate schedule, and the exponential moving average (EMA) of the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from components.train.device import precision_of
from components.train.extras.candidate_rows import CandidateRows
from components.train.extras.muon import BatchedMuon
from components.train.settings import TrainSettings


def build_optimizers(model: nn.Module, settings: TrainSettings, rows: CandidateRows | None = None) -> list[Optimizer]:
    """The optimizers that `settings.optimizer` names in `OPTIMIZERS`; one without weights is left out.

    The rows of a sampled softmax are the optimizer of the embeddings, if there are any.

    Embeddings, an untied output layer, norms and biases have no weight decay. A checkpoint keeps the state of an
    optimizer, so every value of that state is a tensor; the schedule reads the peak from `optimizer.defaults["lr"]`.
    """
    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    if (head := getattr(model, "get_output_embeddings", lambda: None)()) is not None:
        embeddings.add(id(head.weight))
    decayed = [weight for weight in trainable if weight.ndim == 2 and id(weight) not in embeddings]
    undecayed = _without(trainable, decayed)
    if rows is None:
        return OPTIMIZERS[settings.optimizer](decayed, undecayed, settings)
    undecayed = _without(undecayed, list(rows.resident.values()))
    return [*OPTIMIZERS[settings.optimizer](decayed, undecayed, settings), rows]


def _adamw(decayed: list[nn.Parameter], undecayed: list[nn.Parameter], settings: TrainSettings) -> list[Optimizer]:
    """AdamW for all weights."""
    groups = [
        {"params": undecayed, "weight_decay": 0.0},
        {"params": decayed, "weight_decay": settings.weight_decay},
    ]
    if not (groups := [group for group in groups if group["params"]]):
        return []
    betas = (float(settings.beta1), float(settings.beta2))
    return [AdamW(groups, lr=settings.learning_rate, betas=betas, fused=True)]


def _muon(decayed: list[nn.Parameter], undecayed: list[nn.Parameter], settings: TrainSettings) -> list[Optimizer]:
    """Muon for the matrices of the layers, and AdamW for the rest; all weights of LoRA are matrices."""
    # AdaLoRA keeps its singular values in a column, which Muon cannot orthogonalize.
    matrices = [weight for weight in decayed if min(weight.shape) > 1]
    optimizers = _adamw(_without(decayed, matrices), undecayed, settings)
    if matrices:
        peak = settings.muon_learning_rate or settings.learning_rate
        dtype = torch.bfloat16 if precision_of(settings, matrices[0].device) == "bfloat16" else torch.float32
        optimizers.append(BatchedMuon(matrices, dtype=dtype, lr=peak, weight_decay=settings.weight_decay))
    return optimizers


def _without(weights: list[nn.Parameter], others: list[nn.Parameter]) -> list[nn.Parameter]:
    ids = {id(weight) for weight in others}
    return [weight for weight in weights if id(weight) not in ids]


OPTIMIZERS: dict[str, Callable[[list[nn.Parameter], list[nn.Parameter], TrainSettings], list[Optimizer]]] = {
    "adamw": _adamw,
    "muon": _muon,
}


def lr_multiplier(step: int, steps: int, settings: TrainSettings) -> float:
    """The factor of the peak learning rate in a step counted from 0: linear warm-up, then decay over the rest."""
    if step < settings.warmup_steps:
        return (step + 1) / settings.warmup_steps
    progress = (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)
    shape = {"linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2, "constant": 1.0}[settings.decay]
    return settings.min_lr_ratio + (1 - settings.min_lr_ratio) * shape


def set_learning_rate(optimizers: list[Optimizer], multiplier: float) -> float:
    """Sets the learning rate of every group to a multiple of its peak, and returns that of the first group."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = optimizer.defaults["lr"] * multiplier
    return optimizers[0].param_groups[0]["lr"]


class WeightEMA:
    """The exponential moving average of the weights, with a warm-up that lowers the influence of the first steps.

    Without a decay there is no average, and `applied` does not change the weights.
    """

    def __init__(self, weights: dict[str, Tensor], decay: float | None):
        self.weights, self.decay = weights, decay
        self.values = {} if decay is None else {name: weight.detach().clone() for name, weight in weights.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Updates the average with the weights after a step counted from 0."""
        if self.decay is not None:
            weight_of_new = 1 - min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(self.values.values()), list(self.weights.values()), weight_of_new)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Replaces the weights by the average within the block."""
        if self.decay is None:
            yield
            return
        backup = {name: weight.detach().clone() for name, weight in self.weights.items()}
        copy_into(self.weights, self.values)
        try:
            yield
        finally:
            copy_into(self.weights, backup)


@torch.no_grad()
def copy_into(weights: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    """Overwrites weights with values of the same names."""
    for name, weight in weights.items():
        weight.copy_(values[name])
