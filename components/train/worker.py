"""One process of a training: from a folder of tokens to a model folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from components.shared.manifest import write_atomically
from components.train.data import Split, TrainOrder, ValidationBlocks
from components.train.device import choose_device, prepare
from components.train.loop import Corpus, Keeper, budget, train
from components.train.model import build_model, save_model
from components.train.parallel import ALONE, Group
from components.train.settings import TrainSettings


def fit(
    settings: TrainSettings,
    tokens: dict[str, Any],
    tokens_dir: Path,
    model_dir: Path,
    *,
    keeper: Keeper | None = None,
    observe: Callable[[dict[str, Any], int], None] = lambda row, steps: None,
    told_to_stop: Callable[[], bool] = lambda: False,
    group: Group = ALONE,
) -> dict[str, Any]:
    device = choose_device(settings, group.rank)
    numerics = prepare(settings, device, group.size)
    corpus = open_corpus(settings, tokens, tokens_dir, device)
    model = build_model(settings, vocab_size=tokens["vocab_size"], eos_id=tokens["eos_id"])
    nn.Module.to(model, device)
    steps = budget(settings, corpus.order.steps_per_epoch)
    progress = train(
        model,
        corpus,
        settings,
        steps=steps,
        device=device,
        keeper=keeper,
        observe=lambda row: observe(row, steps),
        told_to_stop=told_to_stop,
        group=group,
    )
    save_model(model, model_dir, vocab_size=tokens["vocab_size"], eos_id=tokens["eos_id"])
    shutil.copytree(tokens_dir / "tokenizer", model_dir, dirs_exist_ok=True)
    history = "".join(json.dumps(row) + "\n" for row in progress.history)
    write_atomically(model_dir / "history.jsonl", history)
    return {
        "best_step": progress.best_step,
        "steps": progress.step,
        "validation_loss": progress.best_loss,
        "tokens_seen": progress.step * settings.batch * settings.block,
        "train_seconds": progress.seconds,
        "gpu_seconds": progress.seconds * group.size if device.type == "cuda" else 0.0,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "numerics": numerics,
        "dataset_digest": tokens["dataset_digest"],
        "tokenizer_digest": tokens["tokenizer_digest"],
        "stopped": "early" if progress.stopped_early else "budget",
    }


def open_corpus(settings: TrainSettings, tokens: dict[str, Any], folder: Path, device: torch.device) -> Corpus:
    start_id = tokens["eos_id"] if settings.document_start else None
    train_split, validation = (Split.open(folder, name, tokens["dtype"], start_id) for name in ("train", "validation"))
    order = TrainOrder(train_split, block=settings.block, batch=settings.batch, seed=settings.seed, device=device)
    blocks = ValidationBlocks(validation, block=settings.block, limit=settings.validation_tokens, device=device)
    return Corpus(order, blocks, tokens["vocab_size"])
