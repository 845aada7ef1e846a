"""The state of a training, written so that one that goes on is bit for bit the one that was never interrupted.

Data order, dropout and learning rate are functions of the seed and the step, so the step number holds them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from components.shared.storage.files import disk_failure, write_atomically
from components.train.extras.adapters import Ranks
from components.train.optim import Average, copy_into


@dataclass
class Progress:
    """How far a training is: plain values, the part of its state that is no tensor.

    Attributes:
        step: optimizer steps done.
        seconds: spent training, over all interruptions.
        best_loss, best_step: of the evaluation that won so far.
        misses: evaluations since then.
        stopped_early: whether patience ended.
        history: what was observed, a row for every log point.
        pending: loss and gradient norm of every step since the last log point.
    """

    step: int = 0
    seconds: float = 0.0
    best_loss: float = float("inf")
    best_step: int = 0
    misses: int = 0
    stopped_early: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)
    pending: list[tuple[float, float]] = field(default_factory=list)


@dataclass
class State:
    """Everything that a step changes.

    Attributes:
        weights: the trainable weights by name.
        optimizers: of those weights.
        average: their moving average, if there is one.
        progress: the plain values.
        best: the weights of the best evaluation.
        ranks: AdaLoRA's, where that is the adapter.
    """

    weights: dict[str, Tensor]
    optimizers: list[Optimizer]
    average: Average
    progress: Progress = field(default_factory=Progress)
    best: dict[str, Tensor] = field(default_factory=dict)
    ranks: Ranks | None = None


def write_state(state: State, folder: Path, training: str) -> None:
    """Writes a state into an empty folder.

    Args:
        state: of the training.
        folder: where it goes.
        training: the reuse key; with the step it is named in every file, so that the store keeps each checkpoint
            apart and damage to one leaves the others whole.

    Raises:
        Failure: the disk is full.
    """
    parts = {
        "weights": state.weights,
        "optimizer": _optimizer_tensors(state),
        "average": state.average.values,
        "best": state.best,
        "ranks": state.ranks.tensors() if state.ranks else {},
    }
    made = {"training": training, "step": str(state.progress.step)}
    for name, tensors in parts.items():
        path = folder / f"{name}.safetensors"
        tensors = {key: tensor.detach().contiguous().cpu() for key, tensor in tensors.items()}
        try:
            save_file(tensors, path, metadata=made)
        except (OSError, SafetensorError) as error:
            raise disk_failure(error if isinstance(error, OSError) else OSError(str(error)), path) from error
    write_atomically(folder / "progress.json", json.dumps(asdict(state.progress), indent=1) + "\n")


def read_state(state: State, folder: Path) -> None:
    """Puts what `write_state` wrote into a state of the same model and settings."""
    progress = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
    progress["pending"] = [tuple(pair) for pair in progress["pending"]]
    state.progress = Progress(**progress)
    copy_into(state.weights, load_file(folder / "weights.safetensors"))
    if state.average.values:
        copy_into(state.average.values, load_file(folder / "average.safetensors"))
    best = load_file(folder / "best.safetensors")
    state.best = {name: best[name].to(state.weights[name].device) for name in best}
    if state.ranks:
        state.ranks.restore(load_file(folder / "ranks.safetensors"))
    _restore_optimizers(state, load_file(folder / "optimizer.safetensors"))


def _optimizer_tensors(state: State) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": value
        for optimizer in state.optimizers
        for name, weight in state.weights.items()
        for key, value in optimizer.state.get(weight, {}).items()
    }


def _restore_optimizers(state: State, tensors: dict[str, Tensor]) -> None:
    owner = {id(weight): opt for opt in state.optimizers for group in opt.param_groups for weight in group["params"]}
    for path, value in tensors.items():
        name, _, key = path.rpartition("/")
        weight = state.weights[name]
        owner[id(weight)].state[weight][key] = value.to(weight.device)
