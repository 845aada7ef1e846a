"""The training step: takes up what is there, trains, and hands on a Hugging Face folder."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from components.shared.base.events import emit
from components.shared.reuse.keys import request_of
from components.shared.reuse.trained import fetch_same, keep_model, made_by
from components.shared.reuse.training_lock import training_lock
from components.shared.runtime.step import Step
from components.shared.storage.manifest import Manifest, read_manifest, write_manifest
from components.train import checkpoint_manager
from components.train.settings import TrainSettings
from components.train.weights import bring_weights, digest_of_weights

if TYPE_CHECKING:
    from components.train.job import Job


def run(step: Step, reuse_key: str, tokens_dir: Path, model_dir: Path) -> None:
    """Trains a model on packed tokens, or takes the one that the same request ended in with the same numerics.

    Args:
        step: settings, store and record of the run.
        reuse_key: of the model, as it is asked for; names its checkpoints.
        tokens_dir: a folder of kind tokens.
        model_dir: where the folder of kind model is written.

    Raises:
        Interrupted: asked to stop; a later run resumes from the checkpoint that the message names.
        Failure: another run trains this already; or see `components.train.loop.train`.
    """
    settings = step.section(TrainSettings)
    tokens = read_manifest(tokens_dir, "tokens")
    forced = bool(step.settings.get("download", {}).get("force"))
    if not forced and _made_before(step, settings, reuse_key, model_dir):
        emit("reused", step=step.name, what="model", reuse_key=reuse_key)
        return
    lock = training_lock(step.store, reuse_key).held(step.run)
    with lock as held, tempfile.TemporaryDirectory(prefix="wikigpt-train-") as scratch:
        if held.before:
            emit("note", text=f"The run {held.before} that trained this is dead: its training is taken over")
        if forced:
            checkpoint_manager.forget_others(step.store, reuse_key, step.run)
        job = _prepare_job(step, settings, reuse_key, tokens, Path(scratch), (tokens_dir, model_dir), held.number)
        with told_to_stop() as stop:
            metadata = _train(job, settings, stop)
        model = write_manifest(model_dir, "model", metadata)
        held.check()
        keep_model(step.store, model_dir, model, reuse_key)


def _made_before(step: Step, settings: TrainSettings, reuse_key: str, model_dir: Path) -> Manifest | None:
    """The model that a training like this one ended in, with the numerics of this machine."""
    if not any(made_by(step.store, reuse_key)):
        return None  # torch, which knows the numerics, takes seconds to load
    from components.train.device import choose_device, count_processes, numerics_of

    numerics = numerics_of(settings, choose_device(settings), count_processes(settings))
    return fetch_same(step.store, reuse_key, numerics, model_dir)


@contextmanager
def told_to_stop() -> Iterator[Callable[[], bool]]:
    """Yields whether SIGTERM came; inside the block it ends nothing by itself."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGTERM, before)


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

    weights = bring_weights(settings, scratch / "weights", step.store)
    parts = request_of(tokens.metadata["dataset_digest"], step.settings).identity
    parts["tokenizer"] = tokens.metadata["tokenizer_digest"]
    if weights:
        parts["pretrained"] = digest_of_weights(weights)
    found = checkpoint_manager.newest(step.store, reuse_key, parts, scratch / "checkpoints")
    if found is None and (other := checkpoint_manager.nearest_other(step.store, reuse_key, parts)):
        emit("note", text=other)
    tokens_dir, model_dir = folders
    return Job(
        run=step.run,
        lock=lock,
        sections=step.settings,
        reuse_key=reuse_key,
        identity=parts,
        tokens=tokens.metadata,
        tokens_dir=str(tokens_dir),
        model_dir=str(model_dir),
        weights=str(weights) if weights else None,
        resume_from=str(found) if found else None,
    )


def _train(job: Job, settings: TrainSettings, stop: Callable[[], bool]) -> dict:
    from components.train.device import count_processes
    from components.train.distributed import ALONE
    from components.train.job import work
    from components.train.worker import work_together

    if (processes := count_processes(settings)) > 1:
        return work_together(job, processes, stop)
    return work(job, ALONE, stop)
