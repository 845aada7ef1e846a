"""The training step: reuses or resumes an earlier training, or trains, and writes a Hugging Face folder."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from components.shared.base.events import emit
from components.shared.base.failure import first_line
from components.shared.reuse.keys import training_parts
from components.shared.reuse.trained import fetch_result, publish_model, training_results
from components.shared.reuse.training_lock import training_lock
from components.shared.runtime.step import Step
from components.shared.storage.manifest import Manifest, read_manifest, write_manifest
from components.shared.storage.store import Store
from components.shared.text.units import word_perplexity
from components.shared.tracking import registry
from components.shared.tracking.run import Tracking
from components.train import checkpoint_manager
from components.train.hosts import Hosts
from components.train.settings import TrainSettings
from components.train.weights import fetch_teachers, fetch_weights, start_parts

if TYPE_CHECKING:
    from components.train.job import Job

_PATIENCE = 5.0  # seconds to wait at the end for an MLflow that does not answer


def run(step: Step, reuse_key: str, tokens_dir: Path, model_dir: Path, *, reuse_level: str = "nothing") -> None:
    """Trains a model on token ids, or fetches the model of an earlier training with the same inputs and numerics.

    Of several machines, see `Hosts`, each runs the step. The first holds the lock, publishes the model and writes the
    folder; the others only train.

    Args:
        step: the step, with the settings, the store and the MLflow run.
        reuse_key: the model key; it names the checkpoints.
        tokens_dir: a folder of kind tokens.
        model_dir: the folder of kind model that is written.
        reuse_level: the most useful artifact that `download` found; `forced` ignores earlier models and the checkpoints
            of other runs.

    Raises:
        Interrupted: a stop was requested; a later run resumes from the checkpoint that the message names.
        Failure: another run is training this model; or see `components.train.loop.train`.
    """
    settings, hosts = step.section(TrainSettings), Hosts.from_environment()
    tokens = read_manifest(tokens_dir, "tokens")
    forced = reuse_level == "forced"
    if not forced and (earlier := _fetch_trained(step, settings, hosts, reuse_key, model_dir)):
        emit("reused", step=step.name, what="model", reuse_key=reuse_key)
        if hosts.rank == 0:
            _record_result(step, tokens, earlier)
        return
    if hosts.rank:
        _join(step, settings, hosts, reuse_key, tokens, (tokens_dir, model_dir))
        return
    lock = training_lock(step.store, reuse_key).held(step.run)
    with lock as held, tempfile.TemporaryDirectory(prefix="wikigpt-train-") as scratch:
        if held.before:
            emit("note", text=f"The run {held.before} that trained this is dead, so this run takes over its training")
        if forced:
            checkpoint_manager.remove_others(step.store, reuse_key, step.run)
        job = _prepare_job(step, settings, reuse_key, tokens, Path(scratch), (tokens_dir, model_dir), held.number)
        job = _with_checkpoint(job, step.store, Path(scratch))
        with stop_on_sigterm() as stop_requested:
            metadata = _train(job, settings, hosts, stop_requested)
        model = write_manifest(model_dir, "model", metadata)
        held.check()
        publish_model(step.store, model_dir, model, reuse_key)
    _record_result(step, tokens, model)


def _join(
    step: Step, settings: TrainSettings, hosts: Hosts, reuse_key: str, tokens: Manifest, folders: tuple[Path, Path]
) -> None:
    """Trains along with the first machine, which decides the checkpoint and writes everything."""
    with tempfile.TemporaryDirectory(prefix="wikigpt-train-") as scratch:
        job = _prepare_job(step, settings, reuse_key, tokens, Path(scratch), folders, lock=0)
        with stop_on_sigterm() as stop_requested:
            _train(job, settings, hosts, stop_requested)
    emit("note", text=f"This machine, {hosts.rank} of {hosts.count}, trained along; the first one has the model")


def _record_result(step: Step, tokens: Manifest, model: Manifest) -> None:
    """Records the result in MLflow, where sweeps compare trainings. The model is published, so MLflow may be away."""
    result = model.metadata
    perplexity = word_perplexity(result["validation_loss"], tokens.metadata["splits"]["validation"])
    measured = {name: result[name] for name in registry.TRAINING_METRICS}
    try:
        tracking = Tracking.open(step.run, patience=_PATIENCE)
        tracking.metrics({registry.VALIDATION_WORD_PERPLEXITY: perplexity, **measured})
    except Exception as error:
        emit("note", text=f"warning: the result of the training is not in MLflow: {first_line(error)}")


def _fetch_trained(
    step: Step, settings: TrainSettings, hosts: Hosts, reuse_key: str, model_dir: Path
) -> Manifest | None:
    """Fetches the model of an earlier training with the same inputs and the numerics of this machine."""
    if not any(training_results(step.store, reuse_key)):
        return None  # importing torch for the numerics takes seconds
    from components.train.device import choose_device, count_processes, numerics_of

    processes = count_processes(settings, hosts.count)
    numerics = numerics_of(settings, choose_device(settings), processes, hosts.count)
    return fetch_result(step.store, reuse_key, numerics, model_dir)


@contextmanager
def stop_on_sigterm() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether SIGTERM was received. Within the block the signal has no other effect."""
    received: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        received.append(number)

    previous = signal.signal(signal.SIGTERM, handler)
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _prepare_job(
    step: Step,
    settings: TrainSettings,
    reuse_key: str,
    tokens: Manifest,
    scratch: Path,
    folders: tuple[Path, Path],
    lock: int,
) -> Job:
    from components.train.job import Job

    weights = fetch_weights(settings, scratch / "weights", step.store)
    key_parts = {**tokens.metadata["identity"], **training_parts(step.settings["train"])}
    key_parts["tokenizer"] = tokens.metadata["tokenizer_digest"]
    if weights:
        key_parts |= start_parts(settings, weights, tokens.metadata["tokenizer_digest"])
    teachers = fetch_teachers(settings, scratch / "teachers", step.store, tokens.metadata["tokenizer_digest"])
    tokens_dir, model_dir = folders
    return Job(
        run=step.run,
        lock=lock,
        sections=step.settings,
        reuse_key=reuse_key,
        key_parts=key_parts,
        tokens=tokens.metadata,
        tokens_dir=str(tokens_dir),
        model_dir=str(model_dir),
        weights=str(weights) if weights else None,
        teachers=tuple(map(str, teachers)),
    )


def _with_checkpoint(job: Job, store: Store, scratch: Path) -> Job:
    """The job with the newest checkpoint of its training, if there is one."""
    checkpoint = checkpoint_manager.load_latest(store, job.reuse_key, job.key_parts, scratch / "checkpoints")
    if checkpoint is None:
        if difference := checkpoint_manager.describe_nearest(store, job.reuse_key, job.key_parts):
            emit("note", text=difference)
        return job
    return replace(job, resume_from=str(checkpoint))


def _train(job: Job, settings: TrainSettings, hosts: Hosts, stop_requested: Callable[[], bool]) -> dict:
    from components.train.device import count_processes
    from components.train.distributed import SINGLE_PROCESS
    from components.train.job import run_worker
    from components.train.worker import launch_workers

    if (processes := count_processes(settings, hosts.count)) > 1:
        return launch_workers(job, processes, hosts, stop_requested)
    return run_worker(job, settings, SINGLE_PROCESS, stop_requested)
