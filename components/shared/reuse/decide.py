"""The decision whether a run trains, by the most useful artifact that an earlier run made for the same model key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Action = Literal["train", "skip"]
ReuseLevel = Literal["forced", "version", "model", "checkpoint", "nothing"]


@dataclass(frozen=True)
class Decision:
    """The decision, and the reason for it.

    Attributes:
        action: whether the steps after download run.
        level: the most useful artifact that exists already, or `forced` if it is ignored.
        reason: the reason as a phrase for people.
    """

    action: Action
    level: ReuseLevel
    reason: str


def decide(
    *, force: bool, version: str | None, model: bool, checkpoint: bool, continued: str | None = None
) -> Decision:
    """The first level of reuse that applies.

    Args:
        force: whether to ignore earlier artifacts.
        version: a registered version of this model key, if one exists.
        continued: the version from which the training would start, if it is the result of the same request already: of
            this corpus, these settings and this code, from an earlier version.
        model: whether the store has a trained model of this key.
        checkpoint: whether the store has a checkpoint of this key.
    """
    if force:
        return Decision("train", "forced", "forced: earlier artifacts are ignored")
    if version is not None:
        return Decision("skip", "version", f"version {version} already exists for these inputs")
    if continued is not None:
        return Decision(
            "skip", "version", f"version {continued}, from which it would start, already went on with these inputs"
        )
    if model:
        return Decision("train", "model", "a trained model is in the store: it is evaluated and registered")
    if checkpoint:
        return Decision("train", "checkpoint", "a checkpoint is in the store: training is resumed from it")
    return Decision("train", "nothing", "no version, model or checkpoint exists for these inputs")
