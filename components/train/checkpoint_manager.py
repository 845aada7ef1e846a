"""Checkpoints in the store. The manifest is written last, the newest few are kept, and reading verifies digests."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from components.shared.base.events import emit
from components.shared.base.failure import Damaged, Interrupted
from components.shared.reuse.keys import differences
from components.shared.storage.manifest import write_manifest
from components.shared.storage.store import Store
from components.train.checkpoint import State, write_state
from components.train.settings import CheckpointSettings

KIND = "checkpoint"


class CheckpointManager:
    """Saves checkpoints of one training. Training waits until a state is on the disk, and a thread publishes it.

    Use it as a context manager around training. Its end waits for the checkpoint that is being published; there is at
    most one.

    Args:
        store: the store.
        reuse_key: the model key.
        settings: how often checkpoints are saved and how many are kept.
        metadata: the metadata of every checkpoint: identity, numerics, run.
        check_lock: raises an exception if another run has taken over the training.
        on_saved: receives the address of every published checkpoint, in the publishing thread.
        saved: the step of the checkpoint that training resumed from.
        now: the clock, in seconds.

    Attributes:
        saved: the step of the newest complete checkpoint in the store, or None.
    """

    def __init__(
        self,
        store: Store,
        reuse_key: str,
        settings: CheckpointSettings,
        metadata: dict[str, Any],
        check_lock: Callable[[], object],
        *,
        on_saved: Callable[[str], object] = str,
        saved: int | None = None,
        now: Callable[[], float] = time.monotonic,
    ):
        self.store, self.reuse_key, self.settings, self.metadata = store, reuse_key, settings, metadata
        self.check_lock, self.on_saved, self.saved, self.now = check_lock, on_saved, saved, now
        self._publisher = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._in_flight: Future[None] | None = None
        self._last = now()

    def __enter__(self) -> CheckpointManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._finish(quietly=kind is not None)
        finally:
            self._publisher.shutdown()

    def should_save(self, step: int) -> bool:
        """Whether a checkpoint is due after this many steps. `every_seconds` is ignored while one is being published.

        Raises:
            Failure: the last checkpoint could not be published, see `save`.
        """
        in_flight = self._in_flight is not None and not self._in_flight.done()
        if not in_flight:
            self._finish()
        if self.settings.every is not None and step % self.settings.every == 0:
            return True
        seconds = self.settings.every_seconds
        return seconds is not None and not in_flight and self.now() - self._last >= seconds

    def save(self, state: State, *, wait: bool = False) -> None:
        """Writes a state to the disk. While training continues it is published and old checkpoints are removed.

        Args:
            state: the state of the training.
            wait: whether to return only when it is published, as for the last checkpoint. A failure of the previous
                checkpoint is only logged then.

        Raises:
            Failure: the disk is full; or this or the previous checkpoint could not be published, because the store
                cannot be reached or another run has taken over the training.
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
            self.check_lock()
            name = _name(self.reuse_key, step)
            write_manifest(Path(folder), KIND, {**self.metadata, "step": step})
            self.store.publish(Path(folder), KIND, name, replace=True)
        self.saved = step
        self.on_saved(self.store.address(KIND, name))
        for old in self.store.names(KIND, f"{self.reuse_key}/")[: -self.settings.keep]:
            self.store.remove(KIND, old)

    def _finish(self, *, quietly: bool = False) -> None:
        """Waits for the checkpoint that is being published. Its failure is raised once, or only logged if quietly."""
        published, self._in_flight = self._in_flight, None
        if published is None:
            return
        try:
            published.result()
        except Exception as error:
            if not quietly:
                raise
            emit("note", text=f"warning: a checkpoint could not be published: {error}")


def load_latest(store: Store, reuse_key: str, key_parts: dict[str, Any], folder: Path) -> Path | None:
    """Fetches the newest undamaged checkpoint of a training.

    A damaged checkpoint is removed with a warning, and the one before it is tried. A checkpoint with other parts is
    skipped, and the warning names the differences.

    Args:
        store: the store.
        reuse_key: the model key.
        key_parts: the parts of the model key that the checkpoint must have, in its metadata as `identity`.
        folder: the parent of the folder that is written.

    Returns:
        The folder of the checkpoint, or None if there is none.

    Raises:
        Interrupted, Failure: anything but damage, such as a full disk or an unreachable store; nothing is removed then.
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
        elif changed := differences(key_parts, manifest.metadata["identity"]):
            emit("note", text=f"warning: checkpoint {name} is of another training: {'; '.join(changed)}")
        else:
            emit("note", text=f"Training resumes after step {manifest.metadata['step']}")
            return folder / name
    return None


def fetch(store: Store, reuse_key: str, step: int, folder: Path) -> None:
    """Fetches the checkpoint of a step into a folder.

    Raises:
        Failure: the store lacks it.
    """
    if store.fetch(KIND, _name(reuse_key, step), folder) is None:
        raise Interrupted(
            f"The store lacks the checkpoint of step {step}, which the first machine found",
            where=store.address(KIND, _name(reuse_key, step)),
            remedy="give all machines the same WIKIGPT_STORE, and start them again",
        )


def remove_others(store: Store, reuse_key: str, pipeline_run: str) -> None:
    """Removes the checkpoints of a training that other runs saved, so that a forced run starts from scratch."""
    for name in store.names(KIND, f"{reuse_key}/"):
        manifest = store.peek(KIND, name)
        if manifest is None or manifest.metadata["run"] != pipeline_run:
            store.remove(KIND, name)


def describe_nearest(store: Store, reuse_key: str, key_parts: dict[str, Any]) -> str | None:
    """A sentence on how this training differs from the most similar one with a checkpoint, or None."""
    last = {name.rpartition("/")[0]: name for name in store.names(KIND)}
    manifests = [store.peek(KIND, name) for training, name in last.items() if training != reuse_key]
    candidates = [differences(key_parts, manifest.metadata["identity"]) for manifest in manifests if manifest]
    if not candidates:
        return None
    fewest = min(candidates, key=len)
    shown = "; ".join(fewest[:4]) + (f"; and {len(fewest) - 4} more" if len(fewest) > 4 else "")
    return f"A checkpoint of another training is not used, because it differs: {shown}"


def _name(reuse_key: str, step: int) -> str:
    return f"{reuse_key}/{step:08d}"
