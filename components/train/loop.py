"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from components.shared.base.failure import Failure, Interrupted, first_line
from components.shared.model.head import has_linear_lm_head, head_in_float32, negative_log_likelihood
from components.train.checkpoint import Progress, State, read_state
from components.train.data import TrainBatches, TrainingData, seed_of
from components.train.device import autocast
from components.train.distributed import SINGLE_PROCESS, DistributedContext
from components.train.extras.adapters import AdaLoraController
from components.train.extras.candidate_rows import CandidateRows
from components.train.extras.distillation import Distillation
from components.train.metrics import LossBuffer, StepTimer, mean_of
from components.train.model import token_loss
from components.train.optim import WeightEMA, build_optimizers, copy_into, lr_multiplier, set_learning_rate
from components.train.settings import TrainSettings


class Checkpointer(Protocol):
    """Saves checkpoints.

    Attributes:
        saved: the step of the newest checkpoint that a later run would find, or None.
    """

    saved: int | None

    def should_save(self, step: int) -> bool:
        """Whether a checkpoint is due after this many steps. Only rank 0 asks, and all ranks follow its answer."""

    def save(self, state: State, *, wait: bool = False) -> None:
        """Saves the state. With `wait` it returns when the checkpoint is safe, otherwise training continues."""


def train(
    model: nn.Module,
    data: TrainingData,
    settings: TrainSettings,
    *,
    steps: int,
    device: torch.device,
    checkpointer: Checkpointer | None = None,
    resume_from: Path | None = None,
    observe: Callable[[dict[str, Any]], None] = lambda row: None,
    stop_requested: Callable[[], bool] = lambda: False,
    distributed: DistributedContext = SINGLE_PROCESS,
    teachers: Sequence[nn.Module] = (),
) -> Progress:
    """Trains a model in place; it ends with the weights of the best evaluation.

    Args:
        model: the model, on the device.
        data: train and validation tokens, on the device.
        settings: the settings of the training.
        steps: the number of optimizer steps, see `budget`.
        device: the device of this process.
        checkpointer: saves checkpoints; None saves none.
        resume_from: a folder with the checkpoint to resume from.
        observe: receives every row of the loss curve.
        stop_requested: asked after every optimizer step.
        distributed: the data-parallel processes.
        teachers: the models whose probabilities the model learns from, on the device.

    Returns:
        The progress, with the loss curve.

    Raises:
        Interrupted: a stop was requested, and the state is saved; the message names the step of the checkpoint.
        Failure: the loss is no longer finite, memory is full, or a checkpoint could not be saved.
    """
    weights: dict[str, Tensor] = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    ema = WeightEMA(weights, settings.ema_decay)
    rows = CandidateRows.of(model, data.train, data.vocab_size, settings)
    state = State(weights, build_optimizers(model, settings, rows), ema, adalora=AdaLoraController.of(model))
    if resume_from:
        read_state(state, resume_from)
    progress = state.progress
    losses, timer = LossBuffer(progress.pending, settings.log_every, device), StepTimer(progress.seconds)
    # With fullgraph a graph break is an error, not a silent recompilation at every step.
    loss_fn = torch.compile(token_loss, dynamic=False, fullgraph=True) if settings.compile else token_loss
    replica = distributed.replicate(model)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    distillation = Distillation.of(teachers, settings, data.vocab_size)
    micro_batches = _micro_batches(settings, distributed)
    tokens_per_step = settings.global_batch_size * settings.sequence_length

    def record(**values: float) -> None:
        row = {"step": progress.step, "tokens": progress.step * tokens_per_step, **values}
        progress.history.append(row)
        observe(row)

    model.train()
    with _explain_full_memory(settings), rows or nullcontext():
        while progress.step < steps and not progress.stopped_early:
            # Reseed per step so that dropout needs no RNG state; the candidate sampler uses a different stream.
            torch.manual_seed(seed_of(settings.seed, progress.step, 1 + distributed.rank))
            lr = set_learning_rate(state.optimizers, lr_multiplier(progress.step, steps, settings))
            inputs, targets = data.train.batch(progress.step)
            candidates = rows.load(progress.step, inputs, targets) if rows else None
            step_loss = torch.zeros((), device=device)
            for mine in micro_batches:
                with distributed.backward(replica, reduce=mine is micro_batches[-1]):
                    with autocast(settings, device):
                        soft = distillation.soft_targets(inputs[mine], candidates) if distillation else None
                        arguments = inputs[mine], targets[mine], data.vocab_size, candidates, state.adalora, soft
                        loss = replica(loss_fn, *arguments) / len(micro_batches)
                    loss.backward()
                step_loss += loss.detach()
            norm = nn.utils.clip_grad_norm_(parameters, settings.gradient_clip or math.inf)
            for optimizer in state.optimizers:
                optimizer.step()
            if state.adalora:
                state.adalora.allocate(progress.step)
            model.zero_grad(set_to_none=True)
            ema.update(progress.step)
            losses.add(step_loss, norm)  # stays on the device: reading it here would make every step wait
            timer.tick()
            progress.step += 1

            last = progress.step == steps
            due = checkpointer is not None and distributed.rank == 0 and checkpointer.should_save(progress.step)
            stop, due = distributed.any(stop_requested(), due)
            should_log = last or progress.step == 1 or progress.step % settings.log_every == 0
            should_evaluate = last or progress.step % settings.evaluate_every == 0
            should_checkpoint = checkpointer is not None and not last and (stop or due)
            if should_log or should_evaluate or should_checkpoint:
                progress.pending = losses.read(distributed)
                _check_finite(progress, lr, data.train)
            if should_log:
                mean_loss, mean_norm = mean_of(progress.pending)
                speed = timer.rate() * tokens_per_step
                record(loss=mean_loss, learning_rate=lr, gradient_norm=mean_norm, tokens_per_second=speed)
                losses.clear()
                progress.pending = []
            if should_evaluate:
                with timer.paused(), rows.whole_matrices() if rows else nullcontext(), ema.applied():
                    value = validation_loss(model, data, settings, distributed)
                    _update_best(value, state, settings.patience)
                record(validation_loss=value, validation_perplexity=math.exp(min(value, 700)))
            progress.seconds = timer.seconds
            if checkpointer and should_checkpoint and not stop and distributed.rank == 0:
                with timer.paused():
                    checkpointer.save(state)
            if stop and not last:
                interruption = _interrupt(checkpointer, state, steps, distributed)
                distributed.barrier()  # the first process that exits ends all, also one that still writes
                raise interruption

    copy_into(weights, state.best)
    model.eval()
    return progress


@torch.no_grad()
def validation_loss(
    model: nn.Module, data: TrainingData, settings: TrainSettings, distributed: DistributedContext = SINGLE_PROCESS
) -> float:
    """Mean negative log-likelihood (nats) per validation token: one float64 sum divided by one count of tokens.

    The output layer is always computed in float32, because this number selects the weights.
    """
    model.eval()
    is_linear = has_linear_lm_head(model)
    rows = _micro_batches(settings, distributed)[0]
    total = torch.zeros(2, dtype=torch.float64, device=data.validation.ids.device)
    for inputs, targets, scored in data.validation.batches(rows.stop - rows.start, distributed.rank, distributed.size):
        with autocast(settings, inputs.device):
            losses = _losses(model, inputs, targets, data.vocab_size, is_linear)
        total += torch.stack([(losses.double() * scored.flatten()).sum(), scored.sum().double()])
    model.train()
    loss, count = distributed.all_reduce_sum_(total).tolist()
    return loss / count


def _losses(model: Any, inputs: Tensor, targets: Tensor, vocab_size: int, is_linear: bool) -> Tensor:
    """The negative log-likelihood of each target, shape (targets,), with the output layer in float32."""
    if is_linear:
        hidden = model.base_model(input_ids=inputs).last_hidden_state
        weight = model.get_output_embeddings().weight[:vocab_size]
        return negative_log_likelihood(hidden.flatten(0, 1), weight, targets.flatten())
    with head_in_float32(model):
        logits = model(input_ids=inputs).logits[..., :vocab_size]
    return nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")


def budget(settings: TrainSettings, steps_per_epoch: int) -> int:
    """The number of optimizer steps: the smallest of the budgets that are set."""
    budgets = [
        settings.steps,
        settings.epochs and math.ceil(settings.epochs * steps_per_epoch),
        settings.tokens and math.ceil(settings.tokens / (settings.global_batch_size * settings.sequence_length)),
    ]
    return min(steps for steps in budgets if steps)


def _micro_batches(settings: TrainSettings, distributed: DistributedContext) -> list[slice]:
    """The rows of the global batch in each micro-batch of this process."""
    mine = distributed.local_slice(settings.global_batch_size)
    size = (mine.stop - mine.start) // settings.gradient_accumulation_steps
    return [slice(start, start + size) for start in range(mine.start, mine.stop, size)]


def _update_best(value: float, state: State, patience: int | None) -> None:
    """Copies the current weights if their validation loss is the lowest so far, and applies the patience."""
    progress = state.progress
    if not math.isfinite(value):
        raise Failure(
            f"The validation loss is {value} after step {progress.step}",
            where="step train",
            remedy="lower train.learning_rate or raise train.warmup_steps",
        )
    if value < progress.best_loss:
        progress.best_loss, progress.best_step, progress.evals_without_improvement = value, progress.step, 0
        state.best = {name: weight.detach().clone() for name, weight in state.weights.items()}
        return
    progress.evals_without_improvement += 1
    progress.stopped_early = patience is not None and progress.evals_without_improvement >= patience


def _check_finite(progress: Progress, lr: float, batches: TrainBatches) -> None:
    for step, (loss, norm) in enumerate(progress.pending, progress.step - len(progress.pending)):
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise Failure(
                f"The loss is {loss} in step {step + 1} (gradient norm {norm}, learning rate near {lr:.3g})",
                where=batches.describe_batch(step),
                remedy="lower train.learning_rate or raise train.warmup_steps, and look at that text",
            )


def _interrupt(checkpointer: Checkpointer | None, state: State, steps: int, distributed: DistributedContext) -> Failure:
    """Saves the state and returns the exception that names the step from which a later run resumes."""
    what = f"Training was interrupted after step {state.progress.step} of {steps}"
    try:
        if checkpointer and distributed.rank == 0:
            checkpointer.save(state, wait=True)
    except Failure as failure:
        lost = f"{what} and its state could not be saved, {failure.what}; {_last_saved(checkpointer)}"
        return Failure(lost, where=failure.where, remedy=failure.remedy, exit_code=failure.exit_code)
    return Interrupted(
        f"{what}; {_last_saved(checkpointer)}", where="step train", remedy="run the same command again to resume"
    )


def _last_saved(checkpointer: Checkpointer | None) -> str:
    if checkpointer is None or checkpointer.saved is None:
        return "no checkpoint was saved yet"
    return f"the last checkpoint is of step {checkpointer.saved}"


def _explain_full_memory(settings: TrainSettings) -> AbstractContextManager[None]:
    return explain_oom(
        f"a batch of {settings.global_batch_size} sequences of {settings.sequence_length} tokens in"
        f" {settings.gradient_accumulation_steps} micro-batches",
        where="train.global_batch_size and train.sequence_length",
        remedy="raise train.gradient_accumulation_steps, which gives the same result in less memory, or lower"
        " train.sequence_length",
    )


@contextmanager
def explain_oom(what: str, *, where: str, remedy: str) -> Iterator[None]:
    """Turns a failed allocation into a `Failure` that names the settings to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
            raise
        reason = first_line(error, "no more is free")
        raise Failure(f"Memory is full with {what}: {reason}", where=where, remedy=remedy) from error
