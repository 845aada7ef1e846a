"""Decides whether a run trains, depending on which artifacts of earlier runs can be reused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Word = Literal["train", "skip"]
Rung = Literal["forced", "version", "model", "checkpoint", "nothing"]


@dataclass(frozen=True)
class Decision:
    """What the run does.

    Attributes:
        word: whether the steps after download run.
        rung: the highest thing that was made before.
        reason: a phrase for people.
    """

    word: Word
    rung: Rung
    reason: str


def decide(*, force: bool, version: str | None, model: bool, checkpoint: bool) -> Decision:
    """The first rung that holds.

    Args:
        force: ignore what was made before.
        version: a registered version of this reuse key, if there is one.
        model: whether the store has a trained model of it.
        checkpoint: whether the store has a checkpoint of it.
    """
    if force:
        return Decision("train", "forced", "forced: what was made before is ignored")
    if version is not None:
        return Decision("skip", "version", f"version {version} is already made of these data, settings and code")
    if model:
        return Decision("train", "model", "a trained model is in the store: it is evaluated and registered")
    if checkpoint:
        return Decision("train", "checkpoint", "a checkpoint is in the store: training is resumed from it")
    return Decision("train", "nothing", "nothing is known of these data, settings and code")
