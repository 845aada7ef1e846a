"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from components.shared.base.failure import Failure, Interrupted
from components.shared.model.head import head_in_float32
from components.train.checkpoint import Progress, State, read_state
from components.train.data import Corpus, TrainOrder, seed_of
from components.train.device import autocast
from components.train.distributed import ALONE, Group
from components.train.extras.adapters import Ranks
from components.train.extras.sampled_softmax import Candidates, candidates_by_step
from components.train.metrics import Clock, Curve, mean_of
from components.train.model import token_loss
from components.train.optim import Average, build_optimizers, copy_into, learning_rate_share, set_learning_rate
from components.train.settings import TrainSettings


class Keeper(Protocol):
    """Where checkpoints go.

    Attributes:
        saved: the step of the newest checkpoint that a later run would find, or None.
    """

    saved: int | None

    def due(self, step: int) -> bool:
        """Whether a checkpoint is to be kept after this many steps; the first process asks, and all act by its word."""

    def keep(self, state: State, *, wait: bool = False) -> None:
        """Keeps the state; waits until it is safe, or lets training continue meanwhile."""


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
        settings: see there.
        steps: the budget, see `budget`.
        device: of this process.
        keeper: where checkpoints go; None keeps none.
        resume_from: a folder with the state to go on from.
        observe: is handed every row of the curve.
        told_to_stop: asked at every step boundary.
        group: the processes that share each batch.

    Returns:
        How far it came, with the curve.

    Raises:
        Interrupted: it was asked to stop, after the state was kept; the message says from which step it can resume.
        Failure: the loss is not finite any more, memory is full, or a checkpoint could not be kept.
    """
    weights: dict[str, Tensor] = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    average = Average(weights, settings.ema_decay)
    state = State(weights, build_optimizers(model, settings), average, ranks=Ranks.of(model))
    if resume_from:
        read_state(state, resume_from)
    progress = state.progress
    curve, clock = Curve(progress.pending, settings.log_every, device), Clock(progress.seconds)
    parts = _parts(settings, group)
    loss_of = _loss_function(model, corpus, settings, state.ranks)
    tokens_a_step = settings.global_batch_size * settings.sequence_length

    def record(**values: float) -> None:
        row = {"step": progress.step, "tokens": progress.step * tokens_a_step, **values}
        progress.history.append(row)
        observe(row)

    model.train()
    with memory_named(
        f"a batch of {settings.global_batch_size} sequences of {settings.sequence_length} tokens in"
        f" {settings.gradient_accumulation_steps} micro-batches",
        where="train.global_batch_size and train.sequence_length",
        remedy="raise train.gradient_accumulation_steps, which gives the same result in less memory, or lower"
        " train.sequence_length",
    ):
        while progress.step < steps and not progress.stopped_early:
            # Dropout is a function of the step, with no state to keep, and not the one that the candidates are.
            torch.manual_seed(seed_of(settings.seed, progress.step, 1 + group.rank))
            rate = set_learning_rate(state.optimizers, learning_rate_share(progress.step, steps, settings))
            loss = torch.zeros((), device=device)
            for part in parts:
                part_loss = loss_of(progress.step, part) / len(parts)
                part_loss.backward()
                loss += part_loss.detach()
            group.mean(weight.grad for weight in weights.values() if weight.grad is not None)
            norm = nn.utils.clip_grad_norm_(weights.values(), settings.gradient_clip or math.inf)
            for optimizer in state.optimizers:
                optimizer.step()
            if state.ranks:
                state.ranks.allocate(progress.step)
            model.zero_grad(set_to_none=True)
            state.average.update(progress.step)
            curve.add(loss, norm)
            clock.tick()
            progress.step += 1

            last = progress.step == steps
            due = keeper is not None and group.rank == 0 and keeper.due(progress.step)
            stop, due = group.any(told_to_stop(), due)
            log = last or progress.step == 1 or progress.step % settings.log_every == 0
            judge = last or progress.step % settings.evaluate_every == 0
            keep = keeper is not None and not last and (stop or due)
            if log or judge or keep:
                progress.pending = curve.read(group)
                _check_finite(progress, rate, corpus.order)
            if log:
                mean_loss, mean_norm = mean_of(progress.pending)
                speed = clock.rate() * tokens_a_step
                record(loss=mean_loss, learning_rate=rate, gradient_norm=mean_norm, tokens_per_second=speed)
                curve.clear()
                progress.pending = []
            if judge:
                with clock.paused(), state.average.applied():
                    value = validation_loss(model, corpus, settings, group)
                    _judge(value, state, settings.patience)
                record(validation_loss=value, validation_perplexity=math.exp(min(value, 700)))
            progress.seconds = clock.seconds
            if keeper and keep and not stop and group.rank == 0:
                with clock.paused():
                    keeper.keep(state)
            if stop and not last:
                interruption = _interruption(keeper, state, steps, group)
                group.wait()  # the first process to end ends all, also one that still writes
                raise interruption

    copy_into(weights, state.best)
    model.eval()
    return progress


@torch.no_grad()
def validation_loss(model: nn.Module, corpus: Corpus, settings: TrainSettings, group: Group = ALONE) -> float:
    """Mean negative log-likelihood (nats) per token of validation: one float64 sum over one count of tokens.

    Whatever the precision is, the output layer is in float32: the weights are chosen by this number.
    """
    model.eval()
    part = _parts(settings, group)[0]
    total = torch.zeros(2, dtype=torch.float64, device=corpus.validation.stream.device)
    for inputs, targets, scored in corpus.validation.batches(part.stop - part.start, group.rank, group.size):
        with autocast(settings, inputs.device), head_in_float32(model):
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
        settings.tokens and math.ceil(settings.tokens / (settings.global_batch_size * settings.sequence_length)),
    ]
    return min(steps for steps in asked if steps)


def _parts(settings: TrainSettings, group: Group) -> list[slice]:
    """The sequences of each part of a step that this process computes."""
    mine = group.share(settings.global_batch_size)
    size = (mine.stop - mine.start) // settings.gradient_accumulation_steps
    return [slice(start, start + size) for start in range(mine.start, mine.stop, size)]


def _loss_function(
    model: nn.Module, corpus: Corpus, settings: TrainSettings, ranks: Ranks | None
) -> Callable[[int, slice], Tensor]:
    """The loss of some sequences of a step."""

    def plain(inputs: Tensor, targets: Tensor, candidates: Candidates | None) -> Tensor:
        value = token_loss(model, inputs, targets, corpus.vocab_size, candidates)
        return value if ranks is None else value + ranks.penalty()

    # A break in the graph would be compiled anew at every step, and then never again.
    chosen = torch.compile(plain, dynamic=False, fullgraph=True) if settings.compile else plain
    candidates_of = candidates_by_step(corpus.order, corpus.vocab_size, settings)

    def loss(step: int, part: slice) -> Tensor:
        inputs, targets = corpus.order.inputs_and_targets(step, part)
        with autocast(settings, inputs.device):
            return chosen(inputs, targets, candidates_of(step))

    return loss


def _interruption(keeper: Keeper | None, state: State, steps: int, group: Group) -> Failure:
    """Keeps the state, and says from which step a later run will resume."""
    what = f"Training was interrupted after step {state.progress.step} of {steps}"
    try:
        if keeper and group.rank == 0:
            keeper.keep(state, wait=True)
    except Failure as failure:
        lost = f"{what} and its state could not be saved, {failure.what}; {_saved(keeper)}"
        return Failure(lost, where=failure.where, remedy=failure.remedy, exit_code=failure.exit_code)
    return Interrupted(f"{what}; {_saved(keeper)}", where="step train", remedy="run the same command again to resume")


def _saved(keeper: Keeper | None) -> str:
    if keeper is None or keeper.saved is None:
        return "no checkpoint was saved yet"
    return f"the last checkpoint is of step {keeper.saved}"


def _judge(value: float, state: State, patience: int | None) -> None:
    """Keeps the weights that are in place if they are the best so far."""
    progress = state.progress
    if not math.isfinite(value):
        raise Failure(
            f"The validation loss is {value} after step {progress.step}",
            where="step train",
            remedy="lower train.learning_rate or raise train.warmup_steps",
        )
    if value < progress.best_loss:
        progress.best_loss, progress.best_step, progress.misses = value, progress.step, 0
        state.best = {name: weight.detach().clone() for name, weight in state.weights.items()}
        return
    progress.misses += 1
    progress.stopped_early = patience is not None and progress.misses >= patience


def _check_finite(progress: Progress, rate: float, order: TrainOrder) -> None:
    for step, (loss, norm) in enumerate(progress.pending, progress.step - len(progress.pending)):
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise Failure(
                f"The loss is {loss} in step {step + 1} (gradient norm {norm}, learning rate near {rate:.3g})",
                where=order.place(step),
                remedy="lower train.learning_rate or raise train.warmup_steps, and look at that text",
            )


@contextmanager
def memory_named(what: str, *, where: str, remedy: str) -> Iterator[None]:
    """Turns a failed allocation into what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else "no more is free"
        raise Failure(f"Memory is full with {what}: {reason}", where=where, remedy=remedy) from error
