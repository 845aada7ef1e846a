"""The boundary of a step: what it is handed, what its end means, and how a failure leaves its process."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from components.shared.events import emit
from components.shared.failure import ExitCode, Failure, Interrupted
from components.shared.liveness import beating
from components.shared.storage.store import Store, open_store

if TYPE_CHECKING:
    from components.shared.tracking import Tracking

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Step:
    """What every step is handed.

    Attributes:
        name: of the step, as in the DAG.
        run: the identity of the pipeline run.
        settings: the settings of the whole run, by section, as plain JSON values.
    """

    name: str
    run: str
    settings: dict[str, Any]

    def section(self, kind: type[Settings], name: str | None = None) -> Settings:
        """The step's own settings (or another section), checked.

        Raises:
            Failure: a key is unknown or a value does not fit.
        """
        from components.shared.settings import parse_section

        section = name or self.name
        return parse_section(kind, self.settings[section], section)

    @cached_property
    def store(self) -> Store:
        """The store at `WIKIGPT_STORE`."""
        return open_store(required_variable("WIKIGPT_STORE", "the address of the store"))

    @cached_property
    def tracking(self) -> Tracking:
        """The MLflow run of this pipeline run."""
        from components.shared.tracking import Tracking

        return Tracking.open(self.run)


@contextmanager
def step(name: str, settings: str, pipeline_run: str, *, lives: bool = True) -> Iterator[Step]:
    """Runs the body of a step: announces it, beats, and ends the process with the exit code of a failure.

    Args:
        name: of the step.
        settings: the settings of the run, a JSON string.
        pipeline_run: the identity that the orchestrator gave; `WIKIGPT_RUN`, set where a command started the run, wins.
        lives: whether the run is alive with it; False for a step that speaks of a run that has ended, and of a store
            that may be away.
    """
    run = os.environ.get("WIKIGPT_RUN") or pipeline_run
    here = Step(name=name, run=run, settings=json.loads(settings))
    started = time.monotonic()
    emit("step-started", step=name, run=run)
    try:
        with _interruptible(), _living(here) if lives else nullcontext():
            yield here
    except (Exception, _Stopped) as error:
        failure = _failure_of(error, name)
        emit("step-failed", step=name, seconds=round(time.monotonic() - started, 2), **failure.to_dict())
        _record(here, failure)
        print(str(failure), file=sys.stderr, flush=True)
        raise SystemExit(int(failure.exit_code)) from None
    emit("step-finished", step=name, seconds=round(time.monotonic() - started, 2))


def required_variable(name: str, what: str) -> str:
    """An environment variable that a step cannot do without.

    Raises:
        Failure: it is not set.
    """
    if value := os.environ.get(name):
        return value
    raise Failure(
        f"{name} is not set, which gives {what}",
        where="the environment of the step",
        remedy="start the pipeline by `wikigpt run` or `wikigpt submit`, which set it",
        exit_code=ExitCode.USAGE,
    )


def stop_requested() -> bool:
    """Whether the command that started the run asked it to stop (`WIKIGPT_STOP` names the file that says so)."""
    marker = os.environ.get("WIKIGPT_STOP")
    return marker is not None and Path(marker).exists()


class _Stopped(BaseException):
    """SIGTERM came; no `Exception`, which libraries catch, report as an error of their own, and go on from."""


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends the block by an exception, so that what is open is closed; a step may handle it in its own way."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _living(here: Step) -> Iterator[None]:
    """Beats; forgets the failure of an attempt before this one, unless the run was told to stop meanwhile."""
    with beating(here.store, here.run):
        if stop_requested():
            raise Interrupted("The run was told to stop before this step began", where=f"step {here.name}")
        record = f"failures/{here.run}"
        if (earlier := here.store.claimed(record)) and earlier.get("step") == here.name:
            here.store.release(record)
        yield


def _failure_of(error: Exception | _Stopped, name: str) -> Failure:
    if isinstance(error, _Stopped):
        return Interrupted("The step was told to stop", where="SIGTERM")
    return error if isinstance(error, Failure) else unforeseen(error, name)


def unforeseen(error: Exception, name: str) -> Failure:
    """What an error that nobody thought of means to the one who reads of it; its traceback goes to the log."""
    traceback.print_exception(error)
    return Failure(
        f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}",
        where=f"step {name}",
        remedy="see the traceback in the log of the step",
    )


def _record(here: Step, failure: Failure) -> None:
    """Leaves the failure where the notice finds it; the run may have failed because that very place is away."""
    if "store" not in vars(here):
        return  # it could not be opened, after as many attempts as are worth while
    try:
        here.store.put_record(f"failures/{here.run}", {"step": here.name, **failure.to_dict()})
    except Exception as error:
        print(f"The failure could not be recorded in the store: {error}", file=sys.stderr)
