"""One process of a training: from a folder of tokens to a model folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from components.shared.events import emit
from components.shared.fingerprint import differences
from components.shared.lease import check_lease
from components.shared.manifest import MANIFEST, write_atomically
from components.shared.step import Step
from components.train.adapters import add_adapter, merge, save_adapter
from components.train.data import Split, TrainOrder, ValidationBlocks
from components.train.device import choose_device, prepare
from components.train.keeper import StoreKeeper
from components.train.loop import Corpus, budget, train
from components.train.model import build_model, save_model
from components.train.parallel import Group
from components.train.record import Record
from components.train.sampling import candidates_a_step
from components.train.settings import CheckpointSettings, TrainSettings


@dataclass(frozen=True)
class Job:
    """What a process needs to know of the training that it takes part in; plain values, so that it can be sent.

    Attributes:
        run, sections: identity and settings of the pipeline run.
        fingerprint, identity: of the training.
        tokens: the facts of the folder of tokens.
        tokens_dir, model_dir: what is read and written.
        weights: a folder with pretrained weights.
        resume_from: a folder with a checkpoint.
    """

    run: str
    sections: dict[str, Any]
    fingerprint: str
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
        The facts of the model.

    Raises:
        Interrupted, Failure: see `components.train.loop.train`.
    """
    step, settings = job.step, job.settings
    transformers_logging.disable_progress_bar()
    device = choose_device(settings, group.rank)
    numerics = prepare(settings, device, group.size)
    corpus = open_corpus(settings, job.tokens, Path(job.tokens_dir), device)
    vocabulary = {"vocab_size": job.tokens["vocab_size"], "eos_id": job.tokens["eos_id"]}
    weights = Path(job.weights) if job.weights else None
    text = None if job.resume_from else lambda: corpus.order.split.text
    model = build_model(settings, weights=weights, text=text, **vocabulary)
    steps = budget(settings, corpus.order.steps_per_epoch)
    trained = add_adapter(model, settings, steps).to(device)
    keeper = partial(
        StoreKeeper,
        store=step.store,
        fingerprint=job.fingerprint,
        settings=step.section(CheckpointSettings, "checkpoints"),
        facts={"run": job.run, "identity": job.identity, "numerics": numerics},
        still_ours=partial(check_lease, step.store, job.fingerprint, job.run),
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
        learn(keeper=keeper())
        return {}
    params = {f"train.{name}": value for name, value in asdict(settings).items()}
    params |= {f"numerics.{name}": value for name, value in numerics.items()}
    with Record(step, params, earlier=_take_up(job, numerics)) as record:
        kept = partial(record.tag, "wikigpt.checkpoint")
        progress = learn(keeper=keeper(kept=kept), observe=partial(record.observe, steps=steps))
    folder = Path(job.model_dir)
    if settings.adapter != "none":
        save_adapter(trained, settings, folder / "adapter")
    model = merge(trained, settings)
    save_model(model, folder, **vocabulary)
    shutil.copytree(Path(job.tokens_dir) / "tokenizer", folder, dirs_exist_ok=True)
    write_atomically(folder / "history.jsonl", "".join(json.dumps(row) + "\n" for row in progress.history))
    return {
        "fingerprint": job.fingerprint,
        "identity": job.identity,
        "best_step": progress.best_step,
        "steps": progress.step,
        "validation_loss": progress.best_loss,
        "tokens_seen": progress.step * settings.batch * settings.block,
        "train_seconds": round(progress.seconds, 3),
        "gpu_seconds": round(progress.seconds * group.size, 3) if device.type == "cuda" else 0.0,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "candidates": candidates_a_step(settings, corpus.vocab_size),
        "merged": settings.adapter != "prefix",
        "numerics": numerics,
        "dataset_digest": job.tokens["dataset_digest"],
        "tokenizer_digest": job.tokens["tokenizer_digest"],
        "stopped": "early" if progress.stopped_early else "budget",
    }


def open_corpus(settings: TrainSettings, tokens: dict[str, Any], folder: Path, device: torch.device) -> Corpus:
    """The blocks of a folder of tokens, on the device.

    Args:
        settings: block, batch, seed and what is read of validation.
        tokens: the facts of the folder.
    """
    start_id = tokens["eos_id"] if settings.document_start else None
    train_split, validation = (Split.open(folder, name, tokens["dtype"], start_id) for name in ("train", "validation"))
    order = TrainOrder(train_split, block=settings.block, batch=settings.batch, seed=settings.seed, device=device)
    blocks = ValidationBlocks(validation, block=settings.block, limit=settings.validation_tokens, device=device)
    return Corpus(order, blocks, tokens["vocab_size"])


def _take_up(job: Job, numerics: dict[str, Any]) -> list[dict[str, Any]]:
    """The curve of the checkpoint that is gone on from; says what its numerics mean for exactness."""
    if job.resume_from is None:
        return []
    folder = Path(job.resume_from)
    made = json.loads((folder / MANIFEST).read_text())["facts"]
    if unlike := differences(numerics, made["numerics"]):
        emit("note", text=f"warning: the result is not exact to the bit, since numerics differ: {'; '.join(unlike)}")
    return json.loads((folder / "progress.json").read_text())["history"]
