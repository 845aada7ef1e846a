"""The context of a step: its inputs, its record, and how a failure becomes the exit code of its process."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from components.shared.base.events import drop_output, emit, parse
from components.shared.base.failure import ExitCode, Failure, Interrupted, first_line
from components.shared.base.garbage import skip_collection_at_exit
from components.shared.base.renamed_keys import with_new_keys
from components.shared.runtime.liveness import heartbeat
from components.shared.runtime.process import Death, is_step_process, watch_this_process
from components.shared.runtime.run_record import record_failure, record_finish, record_start, write_log
from components.shared.runtime.secrets import fill_in_secrets
from components.shared.storage.store import Store, open_store
from components.shared.tracking.approval import promoters_of_environment
from components.shared.tracking.run import Tracking, mlflow_failure, use_own_variables

Settings = TypeVar("Settings")

# The step that receives the settings of the whole run, because it computes the reuse keys and records the settings.
_RECEIVES_ALL = "download"
# The sections that a step receives besides its own.
_FURTHER_SECTIONS = {"train": ("checkpoints",), "validate": ("register",), "evaluate": ("register",)}


@dataclass(frozen=True)
class Step:
    """The context of a step.

    Attributes:
        name: the name of the step in the DAG.
        run: the id of the pipeline run.
        settings: the settings by section, as JSON values; only the sections that `sections_for` gives the step.
        findings: the values that the step reports to the notification (JSON values); recorded when the step ends.
    """

    name: str
    run: str
    settings: dict[str, Any]
    findings: dict[str, Any] = field(default_factory=dict)

    def section(self, kind: type[Settings], name: str | None = None) -> Settings:
        """The settings of the step, or of a further section that it receives, as a checked dataclass.

        Raises:
            Failure: a key is unknown or a value is not valid.
        """
        from components.shared.runtime.settings import parse_section

        section = name or self.name
        return parse_section(kind, fill_in_secrets(self.settings[section]), section)

    @property
    def promoters(self) -> tuple[str, ...]:
        """The accounts that may move the alias champion, see `components.shared.tracking.approval`; none: everyone."""
        return tuple(self.settings.get("register", {}).get("promoters", ())) or promoters_of_environment()

    @cached_property
    def store(self) -> Store:
        """The store at `WIKIGPT_STORE`."""
        return open_store(required_variable("WIKIGPT_STORE", "the address of the store"))

    @cached_property
    def tracking(self) -> Tracking:
        """The MLflow run of this pipeline run."""
        return Tracking.open(self.run)


@contextmanager
def step(name: str, settings: str | Callable[[], str], pipeline_run: str, *, recorded: bool = True) -> Iterator[Step]:
    """Runs the body of a step: records its start and end, renews the heartbeat, and exits with the code of a failure.

    Args:
        name: the name of the step.
        settings: the settings of the run as a JSON string, or a function that composes it. If it fails, the step fails.
        pipeline_run: the run id of the orchestrator; `WIKIGPT_RUN`, which `wikigpt run` sets, overrides it.
        recorded: whether the step is recorded in the store and renews the heartbeat; False for the exit handler, which
            reports on a run that has ended and must work without the store.
    """
    run = os.environ.get("WIKIGPT_RUN") or pipeline_run
    use_own_variables()
    skip_collection_at_exit()
    here = Step(name=name, run=run, settings={})
    if is_step_process():
        watch_this_process(lambda death: _record_death(here, death, recorded=recorded))
    started = time.monotonic()
    emit("step-started", step=name, run=run)
    try:
        with _interruptible(), _recorded(here) if recorded else nullcontext():
            here.settings.update(sections_for(name, settings if isinstance(settings, str) else settings()))
            yield here
    except (Exception, _Stopped) as error:
        failure = _failure_of(error, name)
        # The record comes first: the container may end a second after SIGTERM, and stdout even earlier.
        if recorded:
            _record_failure(here, failure)
        _emit_failure(name, failure, seconds=time.monotonic() - started)
        raise SystemExit(int(failure.exit_code)) from None
    emit("step-finished", step=name, seconds=round(time.monotonic() - started, 2))


def sections_for(name: str, settings: str) -> dict[str, Any]:
    """The sections of settings that a step receives, so that no step depends on the settings of another.

    Args:
        name: the name of the step.
        settings: the settings of the run as a JSON string.
    """
    sections = with_new_keys(json.loads(settings), "the settings of the run")
    if name == _RECEIVES_ALL:
        return sections
    return {section: sections[section] for section in (name, *_FURTHER_SECTIONS.get(name, ())) if section in sections}


def required_variable(name: str, what: str) -> str:
    """The value of an environment variable that a step needs.

    Raises:
        Failure: the variable is not set.
    """
    if value := os.environ.get(name):
        return value
    raise Failure(
        f"{name} is not set; it must be {what}",
        where="the environment of the step",
        remedy="start the pipeline by `wikigpt run` or `wikigpt submit`, which set it",
        exit_code=ExitCode.USAGE,
    )


def stop_requested() -> bool:
    """Whether the command that started the run has asked it to stop, by creating the file that `WIKIGPT_STOP` names."""
    marker = os.environ.get("WIKIGPT_STOP")
    return marker is not None and Path(marker).exists()


class _Stopped(BaseException):
    """SIGTERM arrived. This is not an `Exception`, because libraries catch those and continue."""


@contextmanager
def _interruptible() -> Iterator[None]:
    """Turns SIGTERM into an exception, so that the block closes its resources; a step may install its own handler.

    A second SIGTERM, as from the parent and the process group, is ignored, so that it cannot interrupt the cleanup.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _Stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except _Stopped:
        raise  # SIGTERM is still ignored, because the process ends now
    except BaseException:
        signal.signal(signal.SIGTERM, before)
        raise
    signal.signal(signal.SIGTERM, before)


@contextmanager
def _recorded(here: Step) -> Iterator[None]:
    """Records the start of an attempt of a step, and its findings when it finishes."""
    with heartbeat(here.store, here.run):
        if stop_requested():
            raise Interrupted("The run was asked to stop before this step began", where=f"step {here.name}")
        record_start(here.store, here.run, here.name)
        yield
        try:
            record_finish(here.store, here.run, here.name, here.findings)
        except Exception as error:  # the work of the step is done and its artifacts are published
            print(f"The end of the step could not be recorded in the store: {error}", file=sys.stderr)


def _failure_of(error: Exception | _Stopped, name: str) -> Failure:
    if isinstance(error, _Stopped):
        return Interrupted("The step was interrupted by SIGTERM", where=f"step {name}")
    if isinstance(error, Failure):
        return error
    # Only if the step used MLflow: importing it just to classify an error would take seconds.
    if "mlflow" in sys.modules and (failure := mlflow_failure(error, os.environ.get("MLFLOW_TRACKING_URI", "MLflow"))):
        return failure
    return wrap_unexpected(error, name)


def wrap_unexpected(error: Exception, name: str) -> Failure:
    """Wraps an unexpected exception as a `Failure`; the traceback goes to the log."""
    with suppress(OSError):
        traceback.print_exception(error)
    return Failure(
        f"{type(error).__name__}: {first_line(error)}",
        where=f"step {name}",
        remedy="see the traceback in the log of the step",
    )


def _record_failure(here: Step, failure: Failure) -> None:
    """Records the failure for the notification. The store itself may be the reason of the failure."""
    if "store" not in vars(here):
        return  # the store could not be opened, and botocore has retried already
    try:
        record_failure(here.store, here.run, here.name, failure, here.findings)
    except Exception as error:
        print(f"The failure could not be recorded in the store: {error}", file=sys.stderr)


def _emit_failure(name: str, failure: Failure, *, seconds: float) -> None:
    emit("step-failed", step=name, seconds=round(seconds, 2), **failure.to_dict())
    try:
        print(str(failure), file=sys.stderr, flush=True)
    except OSError:
        drop_output(2)


def _record_death(here: Step, death: Death, *, recorded: bool) -> None:
    """Stores the log, and records a death that the step could not record. It runs in the parent of the step."""
    if death.number is not None:
        last = [line for line in death.log.splitlines() if line.strip() and parse(line) is None][-3:]
        failure = Failure(
            death.describe() + (f"; its last lines were: {' | '.join(last)}" if last else ""),
            where=f"step {here.name}",
            remedy=f"raise cluster.{here.name}.memory_limit, or make the model or its batch smaller"
            if death.out_of_memory
            else "see the log of the step, and find out who or what ended it",
        )
        if recorded:
            record_failure(here.store, here.run, here.name, failure, here.findings)
        _emit_failure(here.name, failure, seconds=0.0)
    if os.environ.get("WIKIGPT_STORE"):
        write_log(here.store, here.run, here.name, death.log)
