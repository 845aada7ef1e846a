"""The boundary of a step: what it is handed, what its end means, and how a failure leaves its process."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from components.shared.base.events import emit, parse
from components.shared.base.failure import ExitCode, Failure, Interrupted
from components.shared.base.renamed_keys import with_new_keys
from components.shared.runtime.liveness import heartbeat
from components.shared.runtime.process import Death, is_step_process, watch_this_process
from components.shared.runtime.run_record import record_failure, record_finish, record_start, write_log
from components.shared.runtime.secrets import fill_in_secrets
from components.shared.storage.store import Store, open_store
from components.shared.tracking.run import Tracking, translated, use_own_variables

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Step:
    """What every step is handed.

    Attributes:
        name: of the step, as in the DAG.
        run: the identity of the pipeline run.
        settings: the settings of the whole run, by section, as plain JSON values.
        published: what the step found out that the notice needs (JSON values); it is recorded when the step finishes.
    """

    name: str
    run: str
    settings: dict[str, Any]
    published: dict[str, Any] = field(default_factory=dict)

    def section(self, kind: type[Settings], name: str | None = None) -> Settings:
        """The step's own settings (or another section), checked.

        Raises:
            Failure: a key is unknown or a value does not fit.
        """
        from components.shared.runtime.settings import parse_section

        section = name or self.name
        return parse_section(kind, fill_in_secrets(self.settings[section]), section)

    @cached_property
    def store(self) -> Store:
        """The store at `WIKIGPT_STORE`."""
        return open_store(required_variable("WIKIGPT_STORE", "the address of the store"))

    @cached_property
    def tracking(self) -> Tracking:
        """The MLflow run of this pipeline run."""
        return Tracking.open(self.run)


@contextmanager
def step(name: str, settings: str, pipeline_run: str, *, recorded: bool = True) -> Iterator[Step]:
    """Runs the body of a step: records its begin and end, keeps the heartbeat, ends the process with a failure's code.

    Args:
        name: of the step.
        settings: the settings of the run, a JSON string.
        pipeline_run: the identity that the orchestrator gave; `WIKIGPT_RUN`, set where a command started the run, wins.
        recorded: whether the step is part of what the run came to, and the run is alive with it; False for the exit
            handler, which speaks of a run that has ended, and of a store that may be away.
    """
    run = os.environ.get("WIKIGPT_RUN") or pipeline_run
    use_own_variables()
    here = Step(name=name, run=run, settings=json.loads(settings))
    if is_step_process():
        watch_this_process(lambda death: _record_death(here, death, recorded=recorded))
    started = time.monotonic()
    emit("step-started", step=name, run=run)
    try:
        here = replace(here, settings=with_new_keys(here.settings, "the settings of the run"))
        with _interruptible(), _recorded(here) if recorded else nullcontext():
            yield here
    except (Exception, _Stopped) as error:
        failure = _failure_of(error, name)
        # First the record: the container may be gone a second after SIGTERM, and stdout before it.
        if recorded:
            _record_failure(here, failure)
        _say_failure(name, failure, seconds=time.monotonic() - started)
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
    """SIGTERM ends the block by an exception, so that what is open is closed; a step may handle it in its own way.

    It comes once: a second one, as from a parent and a process group, must not end the closing.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _Stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except _Stopped:
        raise  # and SIGTERM stays ignored: the process ends
    except BaseException:
        signal.signal(signal.SIGTERM, before)
        raise
    signal.signal(signal.SIGTERM, before)


@contextmanager
def _recorded(here: Step) -> Iterator[None]:
    """Records an attempt of a step: that it began, and what it published when it finished."""
    with heartbeat(here.store, here.run):
        if stop_requested():
            raise Interrupted("The run was asked to stop before this step began", where=f"step {here.name}")
        record_start(here.store, here.run, here.name)
        yield
        try:
            record_finish(here.store, here.run, here.name, here.published)
        except Exception as error:  # the step has done its work, and its artifacts are published
            print(f"The end of the step could not be recorded in the store: {error}", file=sys.stderr)


def _failure_of(error: Exception | _Stopped, name: str) -> Failure:
    if isinstance(error, _Stopped):
        return Interrupted("The step was interrupted by SIGTERM", where=f"step {name}")
    if isinstance(error, Failure):
        return error
    # Only where MLflow was in use: to import it for the sake of another error would take seconds.
    if "mlflow" in sys.modules and (failure := translated(error, os.environ.get("MLFLOW_TRACKING_URI", "MLflow"))):
        return failure
    return wrap_unexpected(error, name)


def wrap_unexpected(error: Exception, name: str) -> Failure:
    """What an error that nobody thought of means to the one who reads of it; its traceback goes to the log."""
    with suppress(OSError):
        traceback.print_exception(error)
    return Failure(
        f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}",
        where=f"step {name}",
        remedy="see the traceback in the log of the step",
    )


def _record_failure(here: Step, failure: Failure) -> None:
    """Leaves the failure where the notice finds it; the run may have failed because that very place is away."""
    if "store" not in vars(here):
        return  # it could not be opened, after as many attempts as are worth while
    try:
        record_failure(here.store, here.run, here.name, failure, here.published)
    except Exception as error:
        print(f"The failure could not be recorded in the store: {error}", file=sys.stderr)


def _say_failure(name: str, failure: Failure, *, seconds: float) -> None:
    emit("step-failed", step=name, seconds=round(seconds, 2), **failure.to_dict())
    with suppress(OSError):
        print(str(failure), file=sys.stderr, flush=True)


def _record_death(here: Step, death: Death, *, recorded: bool) -> None:
    """In the parent of the step's process: keeps the log, and records a death that the step could not record itself."""
    if death.number is not None:
        last = [line for line in death.log.splitlines() if line.strip() and parse(line) is None][-3:]
        failure = Failure(
            death.describe() + (f"; its last lines were: {' | '.join(last)}" if last else ""),
            where=f"step {here.name}",
            remedy=f"raise cluster.{here.name}.memory_limit, or make the model or its batch smaller"
            if death.out_of_memory
            else "see the log of the step, and who or what ended it",
        )
        if recorded:
            record_failure(here.store, here.run, here.name, failure, here.published)
        _say_failure(here.name, failure, seconds=0.0)
    if os.environ.get("WIKIGPT_STORE"):
        write_log(here.store, here.run, here.name, death.log)
