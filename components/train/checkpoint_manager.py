"""Checkpoints in the store: data first, pointer last, the last few kept, each compared with its digest when read."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from components.shared.base.events import emit
from components.shared.base.failure import Damaged
from components.shared.reuse.keys import differences
from components.shared.storage.manifest import write_manifest
from components.shared.storage.store import Store
from components.train.checkpoint import State, write_state
from components.train.settings import CheckpointSettings

KIND = "checkpoint"


class StoreKeeper:
    """Keeps the states of one training: training waits until a state is on the disk, a thread publishes it.

    Use it as a context manager around training; its end waits for the checkpoint that is being published. There is at
    most one of those.

    Args:
        store: where.
        reuse_key: of the training.
        settings: how often, how many.
        metadata: what made it: identity, numerics, run.
        still_ours: raises where another run has taken the training over.
        kept: is handed the address of every checkpoint, in that thread.
        saved: the step of the checkpoint that training resumed from.
        now: the clock, seconds.

    Attributes:
        saved: the step of the newest checkpoint that is whole in the store, or None.
    """

    def __init__(
        self,
        store: Store,
        reuse_key: str,
        settings: CheckpointSettings,
        metadata: dict[str, Any],
        still_ours: Callable[[], object],
        *,
        kept: Callable[[str], object] = str,
        saved: int | None = None,
        now: Callable[[], float] = time.monotonic,
    ):
        self.store, self.reuse_key, self.settings, self.metadata = store, reuse_key, settings, metadata
        self.still_ours, self.kept, self.saved, self.now = still_ours, kept, saved, now
        self._publisher = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._in_flight: Future[None] | None = None
        self._last = now()

    def __enter__(self) -> StoreKeeper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._finish(quietly=kind is not None)
        finally:
            self._publisher.shutdown()

    def due(self, step: int) -> bool:
        """Whether a checkpoint is to be kept after this many steps; by time there is none while one is published.

        Raises:
            Failure: the last one could not be published, see `keep`.
        """
        in_flight = self._in_flight is not None and not self._in_flight.done()
        if not in_flight:
            self._finish()
        if self.settings.every is not None and step % self.settings.every == 0:
            return True
        seconds = self.settings.every_seconds
        return seconds is not None and not in_flight and self.now() - self._last >= seconds

    def keep(self, state: State, *, wait: bool = False) -> None:
        """Writes a state to the disk; then it is published, and the oldest ones are removed, while training continues.

        Args:
            state: of the training.
            wait: until it is published, as the last one must be. A failure of the one before is only a note then.

        Raises:
            Failure: the disk is full; or, of this one or the one before, the store is away or another run has taken
                the training over.
        """
        self._finish(quietly=wait)
        scratch = tempfile.TemporaryDirectory(prefix="wikigpt-checkpoint-")
        try:
            write_state(state, Path(scratch.name), self.reuse_key)
        except BaseException:
            scratch.cleanup()
            raise
        self._last = self.now()
        self._in_flight = self._publisher.submit(self._publish, scratch, state.progress.step)
        if wait:
            self._finish()

    def _publish(self, scratch: tempfile.TemporaryDirectory[str], step: int) -> None:
        with scratch as folder:
            self.still_ours()
            name = f"{self.reuse_key}/{step:08d}"
            write_manifest(Path(folder), KIND, {**self.metadata, "step": step})
            self.store.publish(Path(folder), KIND, name, replace=True)
        self.saved = step
        self.kept(self.store.address(KIND, name))
        for old in self.store.names(KIND, f"{self.reuse_key}/")[: -self.settings.keep]:
            self.store.remove(KIND, old)

    def _finish(self, *, quietly: bool = False) -> None:
        """Waits for what is being published; its failure is raised once, or is a note."""
        published, self._in_flight = self._in_flight, None
        if published is None:
            return
        try:
            published.result()
        except Exception as error:
            if not quietly:
                raise
            emit("note", text=f"warning: a checkpoint could not be published: {error}")


def newest(store: Store, reuse_key: str, identity: dict[str, Any], folder: Path) -> Path | None:
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
    names = store.names(KIND, f"{reuse_key}/")
    while names:
        name = names.pop()
        try:
            manifest = store.fetch(KIND, name, folder / name)
        except Damaged:
            manifest = None
        if manifest is None:
            emit("note", text=f"warning: checkpoint {name} is damaged and was removed; the one before it is tried")
            store.remove(KIND, name)
        elif unlike := differences(identity, manifest.metadata["identity"]):
            emit("note", text=f"warning: checkpoint {name} is of another training: {'; '.join(unlike)}")
        else:
            emit("note", text=f"Training goes on after step {manifest.metadata['step']}")
            return folder / name
    return None


def forget_others(store: Store, reuse_key: str, pipeline_run: str) -> None:
    """Removes the checkpoints of a training that other runs left, for a run that is to begin anew."""
    for name in store.names(KIND, f"{reuse_key}/"):
        made = store.peek(KIND, name)
        if made is None or made.metadata["run"] != pipeline_run:
            store.remove(KIND, name)


def nearest_other(store: Store, reuse_key: str, identity: dict[str, Any]) -> str | None:
    """What tells this training from the most similar one that left a checkpoint, as a sentence, or None."""
    last = {name.rpartition("/")[0]: name for name in store.names(KIND)}
    manifests = [store.peek(KIND, name) for training, name in last.items() if training != reuse_key]
    unlike = [differences(identity, manifest.metadata["identity"]) for manifest in manifests if manifest]
    if not unlike:
        return None
    fewest = min(unlike, key=len)
    shown = "; ".join(fewest[:4]) + (f"; and {len(fewest) - 4} more" if len(fewest) > 4 else "")
    return f"A checkpoint of another training is not used, since it differs: {shown}"
