"""The state of a training as files, so that a resumed training equals an uninterrupted one bit for bit.

Data order, dropout and learning rate are functions of the seed and the step, so only the step number is stored.
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
from components.train.extras.adapters import AdaLoraController
from components.train.optim import WeightEMA, copy_into


@dataclass
class Progress:
    """The progress of a training: the part of its state that has no tensors.

    Attributes:
        step: the number of finished optimizer steps.
        seconds: the training time over all interruptions.
        best_loss, best_step: the lowest validation loss and its step.
        evals_without_improvement: the number of evaluations since then.
        stopped_early: whether the patience is exhausted.
        history: the loss curve, a row for every log point.
        pending: loss and gradient norm of every step since the last log point.
    """

    step: int = 0
    seconds: float = 0.0
    best_loss: float = float("inf")
    best_step: int = 0
    evals_without_improvement: int = 0
    stopped_early: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)
    pending: list[tuple[float, float]] = field(default_factory=list)


@dataclass
class State:
    """Everything that a step changes.

    Attributes:
        weights: the trainable weights by name.
        optimizers: the optimizers of those weights.
        ema: the moving average of the weights, which is empty without a decay.
        progress: the state that has no tensors.
        best: the weights of the best evaluation.
        adalora: the controller of AdaLoRA, where that is the adapter.
    """

    weights: dict[str, Tensor]
    optimizers: list[Optimizer]
    ema: WeightEMA
    progress: Progress = field(default_factory=Progress)
    best: dict[str, Tensor] = field(default_factory=dict)
    adalora: AdaLoraController | None = None


def write_state(state: State, folder: Path, training: str) -> None:
    """Writes a state into an empty folder.

    Args:
        state: the state of the training.
        folder: the folder.
        training: the model key. Every file contains it with the step, so that no two checkpoints share a blob in the
            store and a damaged blob affects one checkpoint only.

    Raises:
        Failure: the disk is full.
    """
    parts = {
        "weights": state.weights,
        "optimizer": _optimizer_tensors(state),
        "ema": state.ema.values,
        "best": state.best,
        "adalora": state.adalora.tensors() if state.adalora else {},
    }
    metadata = {"training": training, "step": str(state.progress.step)}
    for name, tensors in parts.items():
        path = folder / f"{name}.safetensors"
        tensors = {key: tensor.detach().contiguous().cpu() for key, tensor in tensors.items()}
        try:
            save_file(tensors, path, metadata=metadata)
        except (OSError, SafetensorError) as error:
            raise disk_failure(error if isinstance(error, OSError) else OSError(str(error)), path) from error
    write_atomically(folder / "progress.json", json.dumps(asdict(state.progress), indent=1) + "\n")


def read_state(state: State, folder: Path) -> None:
    """Loads what `write_state` wrote into a state of the same model and settings."""
    progress = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
    progress["pending"] = [tuple(pair) for pair in progress["pending"]]
    state.progress = Progress(**progress)
    copy_into(state.weights, load_file(folder / "weights.safetensors"))
    if state.ema.values:
        copy_into(state.ema.values, load_file(folder / "ema.safetensors"))
    best = load_file(folder / "best.safetensors")
    state.best = {name: best[name].to(state.weights[name].device) for name in best}
    if state.adalora:
        state.adalora.restore(load_file(folder / "adalora.safetensors"))
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
