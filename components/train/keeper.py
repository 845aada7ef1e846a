"""Checkpoints in the store: data first, pointer last, the last few kept, each compared with its digest when read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared.events import emit
from components.shared.failure import Damaged
from components.shared.fingerprint import differences
from components.shared.storage.manifest import write_manifest
from components.shared.storage.store import Store
from components.train.checkpoint import State, write_state
from components.train.settings import CheckpointSettings

KIND = "checkpoint"


@dataclass(frozen=True)
class StoreKeeper:
    """Keeps the states of one training.

    Attributes:
        store: where.
        fingerprint: of the training.
        settings: how often, how many.
        facts: what made it: identity, numerics, run.
        still_ours: raises where another run has taken the training over.
        kept: is handed the address of every checkpoint.
    """

    store: Store
    fingerprint: str
    settings: CheckpointSettings
    facts: dict[str, Any]
    still_ours: Callable[[], object]
    kept: Callable[[str], object] = str

    def due(self, step: int) -> bool:
        return self.settings.every is not None and step % self.settings.every == 0

    def keep(self, state: State) -> None:
        """Publishes a state, then removes the oldest ones.

        Raises:
            Failure: the disk is full, the store is away, or another run has taken over.
        """
        self.still_ours()
        name = f"{self.fingerprint}/{state.progress.step:08d}"
        with tempfile.TemporaryDirectory(prefix="wikigpt-checkpoint-") as scratch:
            write_state(state, Path(scratch), self.fingerprint)
            write_manifest(Path(scratch), KIND, {**self.facts, "step": state.progress.step})
            self.store.publish(Path(scratch), KIND, name, replace=True)
        self.kept(self.store.address(KIND, name))
        for old in self.store.names(KIND, f"{self.fingerprint}/")[: -self.settings.keep]:
            self.store.remove(KIND, old)


def newest(store: Store, fingerprint: str, identity: dict[str, Any], folder: Path) -> Path | None:
    """Fetches the newest whole checkpoint of a training.

    A damaged one is removed with a warning and the one before it is taken; one that something else than this identity
    made is passed over, and the warning says what differs.

    Args:
        folder: below which it goes.

    Returns:
        The folder of the checkpoint, or None where there is none.

    Raises:
        Interrupted, Failure: anything but damage, such as a full disk or a store that is away; nothing is removed then.
    """
    names = store.names(KIND, f"{fingerprint}/")
    while names:
        name = names.pop()
        try:
            manifest = store.fetch(KIND, name, folder / name)
        except Damaged:
            manifest = None
        if manifest is None:
            emit("note", text=f"warning: checkpoint {name} is damaged and was removed; the one before it is tried")
            store.remove(KIND, name)
        elif unlike := differences(identity, manifest.facts["identity"]):
            emit("note", text=f"warning: checkpoint {name} is of another training: {'; '.join(unlike)}")
        else:
            emit("note", text=f"Training goes on after step {manifest.facts['step']}")
            return folder / name
    return None


def forget_others(store: Store, fingerprint: str, pipeline_run: str) -> None:
    """Removes the checkpoints of a training that other runs left, for a run that is to begin anew."""
    for name in store.names(KIND, f"{fingerprint}/"):
        made = store.peek(KIND, name)
        if made is None or made.facts["run"] != pipeline_run:
            store.remove(KIND, name)


def nearest_other(store: Store, fingerprint: str, identity: dict[str, Any]) -> str | None:
    """What tells this training from the most similar one that left a checkpoint, as a sentence, or None."""
    last = {name.rpartition("/")[0]: name for name in store.names(KIND)}
    manifests = [store.peek(KIND, name) for training, name in last.items() if training != fingerprint]
    unlike = [differences(identity, manifest.facts["identity"]) for manifest in manifests if manifest]
    if not unlike:
        return None
    fewest = min(unlike, key=len)
    shown = "; ".join(fewest[:4]) + (f"; and {len(fewest) - 4} more" if len(fewest) > 4 else "")
    return f"A checkpoint of another training is not used, since it differs: {shown}"
