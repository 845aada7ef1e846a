"""The outcome of a run, and the sentence that describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from components.shared.base.failure import ExitCode, Failure, Interrupted
from components.shared.report.measures import format_measure
from components.shared.runtime.run_record import StepRecord

Outcome = Literal["succeeded", "skipped", "failed", "interrupted"]
Hint = Literal["succeeded", "failed", "canceled", "none"]
_MLFLOW = {"succeeded": "FINISHED", "skipped": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
LAST_STEP = "register"

# Every state that Kubeflow Pipelines can hand to an exit handler. Kubeflow Pipelines 2.17 hands over the state of the
# DAG in ML Metadata, which stays RUNNING where no launcher lived to report an end: after a skip too. Its API and
# kfp.local have words of their own.
HINTS: dict[str, Hint] = {
    # ML Metadata, Execution.State
    "UNKNOWN": "none",
    "NEW": "none",
    "RUNNING": "none",
    "COMPLETE": "succeeded",
    "FAILED": "failed",
    "CACHED": "succeeded",
    "CANCELED": "canceled",
    # the API, v2beta1RuntimeState, and kfp.local: those that are not above
    "RUNTIME_STATE_UNSPECIFIED": "none",
    "PENDING": "none",
    "SUCCEEDED": "succeeded",
    "SKIPPED": "succeeded",
    "CANCELING": "canceled",
    "PAUSED": "none",
}


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes:
        outcome: succeeded, skipped (there was nothing to train), failed, or interrupted (canceled, killed, evicted).
        step: that failed or was interrupted, where it is known.
        failure: the reason, where it is known.
    """

    outcome: Outcome
    step: str | None = None
    failure: Failure | None = None

    @property
    def mlflow_status(self) -> str:
        """The status that the MLflow run is given."""
        return _MLFLOW[self.outcome]


@dataclass(frozen=True)
class RunResult:
    """The result of a run, as recorded by its steps and its MLflow run.

    Attributes:
        decision, reason: of the first step.
        model, version: of the registry; also where the run found them made already.
        aliases: of the version.
        word_perplexity: on the test split; None where words mean nothing.
        verdict: of the gate.
        bits_per_byte: on the test split.
    """

    decision: str = ""
    reason: str = ""
    model: str = ""
    version: str = ""
    aliases: tuple[str, ...] = ()
    word_perplexity: float | None = None
    verdict: str = ""
    bits_per_byte: float | None = None


def conclude(state: str, record: Mapping[str, StepRecord] | None, decision: str = "", version: str = "") -> Ending:
    """How a run ended, by its own record first and the orchestrator's word second.

    Args:
        state: what the orchestrator says, see `HINTS`; a word that is not there says nothing.
        record: of the steps, see `components.shared.runtime.run_record`; None where the store is away.
        decision, version: what the MLflow run knows, for a record that is missing.
    """
    hint, record = HINTS.get(state, "none"), record or {}
    started = record.get("download")
    decision = started.findings.get("decision", decision) if started else decision
    last = record.get(LAST_STEP)
    # What a retry repaired is overwritten, so a step that is not finished is where the run ended.
    name, unfinished = max(
        ((name, step) for name, step in record.items() if step.state != "finished"),
        key=lambda item: item[1].began,
        default=(None, None),
    )
    if decision == "skip" and unfinished is None:
        return Ending("skipped")
    if (last and last.state == "finished") or hint == "succeeded" or (not record and version and hint == "none"):
        return Ending("succeeded")
    if unfinished is None:
        return _ended_between_steps(hint, record)
    if unfinished.failure is None:
        return _killed(hint, name)
    stopped = hint == "canceled" or unfinished.failure.exit_code == ExitCode.RESUMABLE
    return Ending("interrupted" if stopped else "failed", name, unfinished.failure)


def _killed(hint: Hint, step: str | None) -> Ending:
    """A step began and its end was not recorded; a launcher that reports a failure saw its process die."""
    if hint == "failed":
        what = "The process of the step was killed before it could record why, most often because memory ran out"
        remedy = "see `wikigpt status RUN` and `wikigpt logs RUN`, which ask Kubernetes for the reason"
        return Ending("failed", step, Failure(what, where=f"step {step}", remedy=remedy))
    what = "Its pod was deleted, evicted, ended by its time-out, or killed with all its processes"
    return Ending("interrupted", step, Interrupted(what, where=f"step {step}"))


def _ended_between_steps(hint: Hint, record: Mapping[str, StepRecord]) -> Ending:
    """No step of the record is unfinished; or there is no record, where the store is away."""
    if hint != "failed":
        return Ending("interrupted")
    if not record:
        return Ending("failed")
    after = max(record, key=lambda name: record[name].began)
    what, remedy = f"No step began after {after}", "see `wikigpt status RUN` for the pod that could not be made"
    return Ending("failed", None, Failure(what, where="the run", remedy=remedy))


def sentence(run: str, ending: Ending, result: RunResult) -> str:
    """What a person reads, one or two sentences."""
    where = f" in {ending.step}" if ending.step else ""
    if ending.outcome == "failed":
        return f"Run {run} failed{where}: {ending.failure or 'no step recorded a failure; see the log of the run.'}"
    if ending.outcome == "interrupted":
        resume = "Start the same run again to resume it."
        return f"Run {run} was interrupted{where}{f': {ending.failure.what}' if ending.failure else ''}. {resume}"
    if ending.outcome == "skipped":
        return f"Run {run} was skipped: {_found(result)}."
    return f"Run {run} succeeded: {_registered(result)}."


def _found(result: RunResult) -> str:
    if not result.version:
        return result.reason or "nothing had to be trained"
    version = f"version {result.version} of {result.model}"
    return f"{version} already has this corpus, these settings and this code{_measures(result)}"


def _registered(result: RunResult) -> str:
    if not result.version:
        return "it registered nothing"
    verdict = f", and the verdict of the gate is {result.verdict}" if result.verdict else ""
    return f"version {result.version} of {result.model} is registered{_measures(result)}{verdict}"


def _measures(result: RunResult) -> str:
    """The score of the version on the test split and its aliases, in parentheses."""
    score = []
    if result.word_perplexity is not None:
        score = [f"word perplexity {format_measure(result.word_perplexity)} on test"]
    elif result.bits_per_byte is not None:
        score = [f"bits per byte {result.bits_per_byte:.4f} on test"]
    shown = ", ".join([*score, *result.aliases])
    return f" ({shown})" if shown else ""
