"""One training process: from a folder of tokens to a model folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from components.shared.base.events import emit
from components.shared.reuse.keys import deciding_numerics, differences
from components.shared.reuse.training_lock import training_lock
from components.shared.runtime.step import Step
from components.shared.storage.files import write_atomically
from components.shared.storage.manifest import MANIFEST, Manifest
from components.shared.tracking import registry
from components.train.checkpoint import Progress
from components.train.checkpoint_manager import CheckpointManager
from components.train.compile_cache import unpack_shipped
from components.train.data import open_data
from components.train.device import choose_device, prepare, remark_on_precision
from components.train.distributed import DistributedContext
from components.train.extras.adapters import add_adapter, merge, save_adapter
from components.train.extras.bigram import TOKENS
from components.train.extras.distillation import load_teachers
from components.train.extras.sampled_softmax import candidates_per_step
from components.train.loop import budget, explain_oom, train
from components.train.model import build_model, save_model
from components.train.reporter import MetricsReporter
from components.train.settings import CheckpointSettings, TrainSettings


@dataclass(frozen=True)
class Job:
    """The inputs of a training process, as plain values that can be sent to it as JSON.

    Attributes:
        run: the id of the pipeline run.
        sections: the sections of settings that the step receives.
        lock: the number of the training lock that this attempt holds; of several machines, the first holds it.
        reuse_key, key_parts: the model key and the values that it is computed from.
        tokens: the metadata of the folder of tokens.
        tokens_dir, model_dir: the folder that is read and the folder that is written.
        weights: a folder with pretrained weights.
        teachers: the folders of the models to distill.
        resume_from: a folder with a checkpoint.
    """

    run: str
    lock: int
    sections: dict[str, Any]
    reuse_key: str
    key_parts: dict[str, Any]
    tokens: dict[str, Any]
    tokens_dir: str
    model_dir: str
    weights: str | None = None
    teachers: tuple[str, ...] = ()
    resume_from: str | None = None

    @property
    def step(self) -> Step:
        return Step("train", self.run, self.sections)


def run_worker(
    job: Job, settings: TrainSettings, distributed: DistributedContext, stop_requested: Callable[[], bool]
) -> dict[str, Any]:
    """Trains a model. Rank 0 writes the model folder.

    Returns:
        The metadata of the model.

    Raises:
        Interrupted, Failure: see `components.train.loop.train`.
    """
    step = job.step
    transformers_logging.disable_progress_bar()
    device = choose_device(settings, distributed.local_rank)
    numerics = prepare(settings, device, distributed.size, distributed.hosts)
    if settings.compile and (remark := unpack_shipped(device)) and distributed.rank == 0:
        emit("note", text=remark)
    changed = _numerics_changed(job, numerics)
    data = open_data(settings, job.tokens, Path(job.tokens_dir), device)
    weights = Path(job.weights) if job.weights else None
    ids = None if job.resume_from else lambda: data.train.split.head(TOKENS)
    vocab_size, eos_id = job.tokens["vocab_size"], job.tokens["eos_id"]
    steps = budget(settings, data.train.steps_per_epoch)
    with explain_oom(
        "the weights of the model",
        where="train.num_hidden_layers, train.hidden_size, train.intermediate_size and train.context",
        remedy="lower one of them, or take a smaller model by train.pretrained",
    ):
        model = build_model(settings, vocab_size=vocab_size, eos_id=eos_id, weights=weights, ids=ids)
        model_to_train = add_adapter(model, settings, steps).to(device)
        teachers = load_teachers([Path(folder) for folder in job.teachers], settings, device)
    checkpoints = partial(
        CheckpointManager,
        step.store,
        job.reuse_key,
        step.section(CheckpointSettings, "checkpoints"),
        metadata={"run": job.run, "identity": job.key_parts, "numerics": numerics, "numerics_changed": changed},
        check_lock=partial(training_lock(step.store, job.reuse_key).check, job.lock),
        saved=_resumed_metadata(job).get("step"),
    )
    train_model = partial(
        train,
        model_to_train,
        data,
        settings,
        steps=steps,
        device=device,
        resume_from=Path(job.resume_from) if job.resume_from else None,
        stop_requested=stop_requested,
        distributed=distributed,
        teachers=teachers,
    )
    if distributed.rank:
        with checkpoints() as manager:
            train_model(checkpointer=manager)
        return {}
    if remark := remark_on_precision(settings, device):
        emit("note", text=remark)
    params = {f"train.{name}": value for name, value in asdict(settings).items()}
    params |= {f"numerics.{name}": value for name, value in numerics.items()}
    with (
        MetricsReporter(step, params, earlier=_load_history(job, numerics)) as reporter,
        checkpoints(on_saved=partial(reporter.tag, registry.CHECKPOINT)) as manager,
    ):
        progress = train_model(checkpointer=manager, observe=partial(reporter.observe, steps=steps))
    model = _write_model(job, settings, model_to_train, progress)
    return _metadata(job, settings, progress, model, numerics) | {"numerics_changed": changed}


def _write_model(job: Job, settings: TrainSettings, model_to_train: nn.Module, progress: Progress) -> PreTrainedModel:
    """Writes the model folder: the weights with the adapter merged in, the adapter, the tokenizer, the loss curve."""
    folder = Path(job.model_dir)
    if settings.adapter != "none":
        save_adapter(model_to_train, settings, folder / "adapter")
    model = merge(model_to_train, settings)
    save_model(model, folder, vocab_size=job.tokens["vocab_size"], eos_id=job.tokens["eos_id"])
    shutil.copytree(Path(job.tokens_dir) / "tokenizer", folder, dirs_exist_ok=True)
    write_atomically(folder / "history.jsonl", "".join(json.dumps(row) + "\n" for row in progress.history))
    return model


def _metadata(
    job: Job, settings: TrainSettings, progress: Progress, model: PreTrainedModel, numerics: dict[str, Any]
) -> dict[str, Any]:
    on_gpu = numerics["device"] != "cpu"
    return {
        "reuse_key": job.reuse_key,
        "tokens_key": job.tokens.get("tokens_key", ""),
        "identity": job.key_parts,
        "best_step": progress.best_step,
        "steps": progress.step,
        "validation_loss": progress.best_loss,
        "tokens_seen": progress.step * settings.global_batch_size * settings.sequence_length,
        "train_seconds": round(progress.seconds, 3),
        "gpu_seconds": round(progress.seconds * numerics["processes"], 3) if on_gpu else 0.0,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "candidates": candidates_per_step(settings, job.tokens["vocab_size"]),
        "merged": settings.adapter != "prefix",
        "numerics": numerics,
        "dataset_digest": job.tokens["dataset_digest"],
        "tokenizer_digest": job.tokens["tokenizer_digest"],
        "stopped": "early" if progress.stopped_early else "budget",
    }


def _load_history(job: Job, numerics: dict[str, Any]) -> list[dict[str, Any]]:
    """The loss curve of the checkpoint that training resumes from. A note names numerics that differ."""
    if job.resume_from is None:
        return []
    earlier = _resumed_metadata(job)["numerics"]
    if changed := differences(deciding_numerics(numerics), deciding_numerics(earlier)):
        emit("note", text=f"warning: the resumed training is not bit-exact, as numerics differ: {'; '.join(changed)}")
    return json.loads((Path(job.resume_from) / "progress.json").read_text(encoding="utf-8"))["history"]


def _numerics_changed(job: Job, numerics: dict[str, Any]) -> bool:
    """Whether an earlier part of this training had other numerics, so that these alone do not decide the result."""
    if not (earlier := _resumed_metadata(job)):
        return False
    if earlier.get("numerics_changed", False):
        return True
    return deciding_numerics(earlier["numerics"]) != deciding_numerics(numerics)


def _resumed_metadata(job: Job) -> dict[str, Any]:
    """The metadata of the checkpoint that training resumes from; empty if there is none."""
    if not job.resume_from:
        return {}
    return Manifest.from_json((Path(job.resume_from) / MANIFEST).read_bytes()).metadata
