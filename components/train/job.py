"""One process of a training: from a folder of tokens to a model folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from components.shared.base.events import emit
from components.shared.base.failure import ExitCode, Failure
from components.shared.reuse.keys import deciding_numerics, differences
from components.shared.reuse.training_lock import training_lock
from components.shared.runtime.step import Step
from components.shared.storage.files import write_atomically
from components.shared.storage.manifest import MANIFEST
from components.shared.tracking import registry
from components.train.checkpoint import Progress
from components.train.checkpoint_manager import StoreKeeper
from components.train.data import open_corpus
from components.train.device import choose_device, prepare, remark_on_precision
from components.train.distributed import Group
from components.train.extras.adapters import add_adapter, merge, save_adapter
from components.train.extras.sampled_softmax import candidates_a_step
from components.train.loop import budget, memory_named, train
from components.train.model import build_model, save_model
from components.train.reporter import Record
from components.train.settings import CheckpointSettings, TrainSettings


@dataclass(frozen=True)
class Job:
    """What a process needs to know of the training that it takes part in; plain values, so that it can be sent.

    Attributes:
        run, sections: identity and settings of the pipeline run.
        lock: number of the lock on the training, as this attempt holds it.
        reuse_key, identity: of the training, as it is asked for.
        tokens: the metadata of the folder of tokens.
        tokens_dir, model_dir: what is read and written.
        weights: a folder with pretrained weights.
        resume_from: a folder with a checkpoint.
    """

    run: str
    lock: int
    sections: dict[str, Any]
    reuse_key: str
    identity: dict[str, Any]
    tokens: dict[str, Any]
    tokens_dir: str
    model_dir: str
    weights: str | None = None
    resume_from: str | None = None

    @property
    def step(self) -> Step:
        return Step("train", self.run, self.sections)

    @property
    def settings(self) -> TrainSettings:
        return self.step.section(TrainSettings)


def work(job: Job, group: Group, told_to_stop: Callable[[], bool]) -> dict[str, Any]:
    """Trains, and in the first process writes the model folder.

    Returns:
        The metadata of the model.

    Raises:
        Interrupted, Failure: see `components.train.loop.train`.
    """
    step, settings = job.step, job.settings
    transformers_logging.disable_progress_bar()
    device = choose_device(settings, group.rank)
    numerics = prepare(settings, device, group.size)
    changed = _numerics_changed(job, numerics)
    corpus = open_corpus(settings, job.tokens, Path(job.tokens_dir), device)
    weights = Path(job.weights) if job.weights else None
    text = None if job.resume_from else lambda: corpus.order.split.text
    vocab_size, eos_id = job.tokens["vocab_size"], job.tokens["eos_id"]
    steps = budget(settings, corpus.order.steps_per_epoch)
    with memory_named(
        "the weights of the model",
        where="train.num_hidden_layers, train.hidden_size, train.intermediate_size and train.context",
        remedy="lower one of them, or take a smaller model by train.pretrained",
    ):
        model = build_model(settings, vocab_size=vocab_size, eos_id=eos_id, weights=weights, text=text)
        trained = add_adapter(model, settings, steps).to(device)
    check_window(settings, job.sections.get("evaluate", {}), model.config)
    keeper = partial(
        StoreKeeper,
        step.store,
        job.reuse_key,
        step.section(CheckpointSettings, "checkpoints"),
        metadata={"run": job.run, "identity": job.identity, "numerics": numerics, "numerics_changed": changed},
        still_ours=partial(training_lock(step.store, job.reuse_key).check, job.lock),
        saved=_resumed_facts(job).get("step"),
    )
    learn = partial(
        train,
        trained,
        corpus,
        settings,
        steps=steps,
        device=device,
        resume_from=Path(job.resume_from) if job.resume_from else None,
        told_to_stop=told_to_stop,
        group=group,
    )
    if group.rank:
        with keeper() as other:
            learn(keeper=other)
        return {}
    if remark := remark_on_precision(settings, device):
        emit("note", text=remark)
    params = {f"train.{name}": value for name, value in asdict(settings).items()}
    params |= {f"numerics.{name}": value for name, value in numerics.items()}
    with (
        Record(step, params, earlier=_take_up(job, numerics)) as record,
        keeper(kept=partial(record.tag, registry.CHECKPOINT)) as first,
    ):
        progress = learn(keeper=first, observe=partial(record.observe, steps=steps))
    model = _write_model(job, trained, progress)
    return _facts(job, progress, model, numerics) | {"numerics_changed": changed}


def check_window(settings: TrainSettings, evaluate: dict[str, Any], config: PreTrainedConfig) -> None:
    """The evaluation must fit what the model reads at once, which is known only here if it is pretrained.

    Args:
        settings: of the training.
        evaluate: the settings of the evaluation, plain values.
        config: of the model.

    Raises:
        Failure: its window or its stride is too long; it would say so after the training.
    """
    context = config.max_position_embeddings - (settings.prefix_tokens if settings.adapter == "prefix" else 0)
    window = evaluate.get("window")
    most = {"window": context, "stride": window or (context if settings.pretrained else settings.sequence_length)}
    for name, limit in most.items():
        if (value := evaluate.get(name)) is not None and value > limit:
            raise Failure(
                f"evaluate.{name} must be at most {limit} with this model, got {value}; the nearest is {limit}",
                where="the context of the model",
                remedy="lower it, or take a model with a longer context",
                exit_code=ExitCode.USAGE,
            )


def _write_model(job: Job, trained: nn.Module, progress: Progress) -> PreTrainedModel:
    """Writes the model folder: weights with the adapter merged in, the adapter, the tokenizer, the curve."""
    folder, settings = Path(job.model_dir), job.settings
    if settings.adapter != "none":
        save_adapter(trained, settings, folder / "adapter")
    model = merge(trained, settings)
    save_model(model, folder, vocab_size=job.tokens["vocab_size"], eos_id=job.tokens["eos_id"])
    shutil.copytree(Path(job.tokens_dir) / "tokenizer", folder, dirs_exist_ok=True)
    write_atomically(folder / "history.jsonl", "".join(json.dumps(row) + "\n" for row in progress.history))
    return model


def _facts(job: Job, progress: Progress, model: PreTrainedModel, numerics: dict[str, Any]) -> dict[str, Any]:
    settings = job.settings
    on_gpu = numerics["device"] != "cpu"
    return {
        "reuse_key": job.reuse_key,
        "tokens_key": job.tokens.get("tokens_key", ""),
        "identity": job.identity,
        "best_step": progress.best_step,
        "steps": progress.step,
        "validation_loss": progress.best_loss,
        "tokens_seen": progress.step * settings.global_batch_size * settings.sequence_length,
        "train_seconds": round(progress.seconds, 3),
        "gpu_seconds": round(progress.seconds * numerics["processes"], 3) if on_gpu else 0.0,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "candidates": candidates_a_step(settings, job.tokens["vocab_size"]),
        "merged": settings.adapter != "prefix",
        "numerics": numerics,
        "dataset_digest": job.tokens["dataset_digest"],
        "tokenizer_digest": job.tokens["tokenizer_digest"],
        "stopped": "early" if progress.stopped_early else "budget",
    }


def _take_up(job: Job, numerics: dict[str, Any]) -> list[dict[str, Any]]:
    """The curve of the checkpoint that training resumes from; says what its numerics mean for exactness."""
    if job.resume_from is None:
        return []
    made = _resumed_facts(job)["numerics"]
    if unlike := differences(deciding_numerics(numerics), deciding_numerics(made)):
        emit("note", text=f"warning: the result is not exact to the bit, since numerics differ: {'; '.join(unlike)}")
    return json.loads((Path(job.resume_from) / "progress.json").read_text(encoding="utf-8"))["history"]


def _numerics_changed(job: Job, numerics: dict[str, Any]) -> bool:
    """Whether any part of the training so far was done with other numerics, so that these do not tell the result."""
    if not (made := _resumed_facts(job)):
        return False
    return made.get("numerics_changed", False) or deciding_numerics(made["numerics"]) != deciding_numerics(numerics)


def _resumed_facts(job: Job) -> dict[str, Any]:
    """The metadata of the checkpoint that training resumes from; none where it begins anew."""
    return (
        json.loads((Path(job.resume_from) / MANIFEST).read_text(encoding="utf-8"))["facts"] if job.resume_from else {}
    )
