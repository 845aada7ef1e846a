"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from components.shared.failure import Failure, Interrupted
from components.train.checkpoint import Progress, State, read_state
from components.train.data import TrainOrder, ValidationBlocks
from components.train.device import autocast
from components.train.model import token_loss
from components.train.optimizer import Average, build_optimizers, copy_into, learning_rate_share, set_learning_rate
from components.train.parallel import ALONE, Group
from components.train.settings import TrainSettings


class Keeper(Protocol):
    """Where checkpoints go."""

    def due(self, step: int) -> bool:
        """Whether a checkpoint is to be kept after this many steps."""

    def keep(self, state: State) -> None:
        """Keeps the state."""


@dataclass(frozen=True)
class Corpus:
    """What is trained on and judged by, with the size of the tokenizer's vocabulary."""

    order: TrainOrder
    validation: ValidationBlocks
    vocab_size: int


def train(
    model: nn.Module,
    corpus: Corpus,
    settings: TrainSettings,
    *,
    steps: int,
    device: torch.device,
    keeper: Keeper | None = None,
    resume_from: Path | None = None,
    observe: Callable[[dict[str, Any]], None] = lambda row: None,
    told_to_stop: Callable[[], bool] = lambda: False,
    group: Group = ALONE,
) -> Progress:
    """Trains a model in place; it ends with the weights of the best evaluation.

    Args:
        model: on the device.
        corpus: blocks on the device.
        settings: see there; nothing is read from anywhere else.
        steps: the budget, see `budget`.
        device: of this process.
        keeper: where checkpoints go; None keeps none.
        resume_from: a folder with the state to go on from.
        observe: is handed every row of the curve.
        told_to_stop: asked at every step boundary.
        group: the processes that share each batch.

    Raises:
        Interrupted: it was told to stop, after the state was kept.
        Failure: the loss is not a number any more, or memory is full.
    """
    weights: dict[str, Tensor] = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    state = State(weights, build_optimizers(model, settings), Average(weights, settings.ema_decay))
    if resume_from:
        read_state(state, resume_from)
    progress, curve = state.progress, Curve(state.progress.pending, settings.log_every, device)
    parts = list(_parts(settings, group))
    loss_of = _loss_function(model, corpus.vocab_size, settings, device)
    clock = Clock()

    model.train()
    while progress.step < steps and not progress.stopped_early:
        step = progress.step
        torch.manual_seed((settings.seed << 40) + (step << 10) + group.rank)
        rate = set_learning_rate(state.optimizers, learning_rate_share(step, steps, settings))
        loss = torch.zeros((), device=device)
        with _memory_named(settings):
            for part in parts:
                part_loss = loss_of(*corpus.order.inputs_and_targets(step, part)) / len(parts)
                part_loss.backward()
                loss += part_loss.detach()
        group.mean(weight.grad for weight in weights.values() if weight.grad is not None)
        norm = nn.utils.clip_grad_norm_(weights.values(), settings.gradient_clip or math.inf)
        for optimizer in state.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        state.average.update(step)
        curve.add(loss, norm)
        progress.step = step = step + 1

        stop = group.any(told_to_stop())
        last = step == steps
        due = keeper is not None and keeper.due(step)
        if step == 1 or step % settings.log_every == 0 or last or due or stop:
            progress.pending = curve.read(group)
            _check_finite(progress, rate, corpus.order)
        if step == 1 or step % settings.log_every == 0 or last:
            losses, norms = zip(*progress.pending, strict=True)
            row = {"step": step, "tokens": step * settings.batch * settings.block, "loss": _mean(losses)}
            row |= {"learning_rate": rate, "gradient_norm": _mean(norms)}
            row |= {"tokens_per_second": clock.lap(len(losses)) * settings.batch * settings.block}
            _record(row, progress, observe)
            progress.pending = curve.clear()
        if step % settings.evaluate_every == 0 or last:
            with clock.paused(), state.average.applied():
                value = validation_loss(model, corpus, settings, device, group)
                _judge(value, state, settings.patience)
            row = {"step": step, "tokens": step * settings.batch * settings.block}
            _record(row | {"validation_loss": value, "validation_perplexity": math.exp(value)}, progress, observe)
        progress.seconds += clock.split()
        if keeper and (due or stop) and not last:
            with clock.paused():
                keeper.keep(state)
        if stop and not last:
            raise Interrupted(f"Training was told to stop after step {step} of {steps}", where="step train")

    copy_into(weights, state.best)
    model.eval()
    return progress


@torch.no_grad()
def validation_loss(
    model: nn.Module, corpus: Corpus, settings: TrainSettings, device: torch.device, group: Group = ALONE
) -> float:
    """Mean negative log-likelihood (nats) per token of validation: one float64 sum over one count, never a mean of
    means."""
    model.eval()
    total = torch.zeros(2, dtype=torch.float64, device=device)
    for inputs, targets, scored in corpus.validation.batches(_evaluation_batch(settings), group.rank, group.size):
        with autocast(settings, device):
            logits = model(input_ids=inputs).logits[..., : corpus.vocab_size]
        losses = nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
        total += torch.stack([(losses.double() * scored.flatten()).sum(), scored.sum().double()])
    model.train()
    loss, count = group.sum(total).tolist()
    return loss / count


def budget(settings: TrainSettings, steps_per_epoch: int) -> int:
    """Optimizer steps: the smallest of the budgets that are set."""
    asked = [
        settings.steps,
        settings.epochs and math.ceil(settings.epochs * steps_per_epoch),
        settings.tokens and math.ceil(settings.tokens / (settings.batch * settings.block)),
    ]
    return min(steps for steps in asked if steps)


class Curve:
    """Loss and gradient norm of the steps since the last log point, on the device: adding to it waits for nothing."""

    def __init__(self, pending: list[tuple[float, float]], capacity: int, device: torch.device):
        self.values = torch.zeros(capacity, 2, device=device)
        self.values[: len(pending)] = torch.tensor(pending).reshape(-1, 2)
        self.count = len(pending)

    def add(self, loss: Tensor, norm: Tensor) -> None:
        self.values[self.count, 0], self.values[self.count, 1] = loss, norm
        self.count += 1

    def read(self, group: Group) -> list[tuple[float, float]]:
        """The values as numbers, which waits for the device; losses are the mean over the processes."""
        values = self.values[: self.count].clone()
        group.mean([values])
        return [(loss, norm) for loss, norm in values.tolist()]

    def clear(self) -> list[tuple[float, float]]:
        self.count = 0
        return []


class Clock:
    """Seconds of training: those of evaluations and checkpoints do not count as steps."""

    def __init__(self) -> None:
        now = time.perf_counter()
        self.lap_began, self.split_began = now, now

    def lap(self, steps: int) -> float:
        """Steps a second since the last lap."""
        now = time.perf_counter()
        rate, self.lap_began = steps / (now - self.lap_began), now
        return rate

    def split(self) -> float:
        """All seconds since the last split."""
        now = time.perf_counter()
        seconds, self.split_began = now - self.split_began, now
        return seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.lap_began += time.perf_counter() - began


def _parts(settings: TrainSettings, group: Group) -> Iterator[slice]:
    """The sequences of each part of a step that this process computes."""
    mine = group.share(settings.batch)
    size = (mine.stop - mine.start) // settings.accumulation
    for start in range(mine.start, mine.stop, size):
        yield slice(start, start + size)


def _loss_function(
    model: nn.Module, vocab_size: int, settings: TrainSettings, device: torch.device
) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(inputs: Tensor, targets: Tensor) -> Tensor:
        with autocast(settings, device):
            return token_loss(model, inputs, targets, vocab_size)

    return torch.compile(loss, dynamic=False) if settings.compile else loss


def _judge(value: float, state: State, patience: int | None) -> None:
    progress = state.progress
    if value < progress.best_loss:
        progress.best_loss, progress.best_step, progress.misses = value, progress.step, 0
        state.best = {name: weight.detach().clone() for name, weight in state.weights.items()}
        return
    progress.misses += 1
    progress.stopped_early = patience is not None and progress.misses >= patience


def _check_finite(progress: Progress, rate: float, order: TrainOrder) -> None:
    first = progress.step - len(progress.pending)
    for step, (loss, norm) in enumerate(progress.pending, first):
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise Failure(
                f"The loss is {loss} in step {step + 1} (gradient norm {norm}, learning rate near {rate:.3g})",
                where=order.place(step),
                remedy="lower train.learning_rate or raise train.warmup_steps, and look at that text",
            )


@contextmanager
def _memory_named(settings: TrainSettings) -> Iterator[None]:
    """Turns a failed allocation into what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
            raise
        raise Failure(
            f"Memory is full with a batch of {settings.batch} sequences of {settings.block} tokens"
            f" in {settings.accumulation} parts: {str(error).splitlines()[0]}",
            where="train.batch and train.block",
            remedy="raise train.accumulation, which gives the same result in less memory, or lower train.block",
        ) from error


def _record(row: dict[str, Any], progress: Progress, observe: Callable[[dict[str, Any]], None]) -> None:
    progress.history.append(row)
    observe(row)


def _evaluation_batch(settings: TrainSettings) -> int:
    return max(1, settings.batch // settings.accumulation)


def _mean(values: tuple[float, ...]) -> float:
    return math.fsum(values) / len(values)
