"""The training step: takes up what is there, trains, and hands on a Hugging Face folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.shared.events import emit
from components.shared.fingerprint import identity
from components.shared.manifest import read_manifest, write_manifest
from components.shared.step import Step
from components.train.settings import TrainSettings


def run(step: Step, fingerprint: str, tokens_dir: Path, model_dir: Path) -> None:
    """Trains a model on packed tokens, or takes the one that the store holds under this fingerprint.

    Args:
        step: settings, store and record of the run.
        fingerprint: of the training; names its checkpoints and its model.
        tokens_dir: a folder of kind tokens.
        model_dir: where the folder of kind model is written.

    Raises:
        Interrupted: told to stop; a later run goes on where this one ended.
        Failure: see `components.train.loop.train`.
    """
    settings = step.section(TrainSettings)
    tokens = read_manifest(tokens_dir, "tokens")
    if step.store.fetch("model", fingerprint, model_dir):
        emit("note", text=f"The model of training {fingerprint} is in the store: nothing to train")
        return
    from components.train.worker import fit

    facts = fit(settings, tokens.facts, tokens_dir, model_dir, observe=_report)
    facts |= {"fingerprint": fingerprint, "identity": identity(tokens.facts["dataset_digest"], step.settings)}
    write_manifest(model_dir, "model", facts)
    step.store.publish(model_dir, "model", fingerprint)


def _report(row: dict[str, Any], steps: int) -> None:
    fields = {name: row[name] for name in ("loss", "validation_perplexity", "tokens_per_second") if name in row}
    emit("progress", step="train", done=row["step"], total=steps, **fields)
