"""Determines the outcome of a run, and describes it in a sentence."""

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

# All states that an exit handler can get. Kubeflow Pipelines 2.17 passes the state of the DAG in ML Metadata, which
# stays RUNNING if no launcher reported an end, for example after a skip. Its API and kfp.local use other names.
HINTS: dict[str, Hint] = {
    # ML Metadata, Execution.State
    "UNKNOWN": "none",
    "NEW": "none",
    "RUNNING": "none",
    "COMPLETE": "succeeded",
    "FAILED": "failed",
    "CACHED": "succeeded",
    "CANCELED": "canceled",
    # the other states of the API, v2beta1RuntimeState, and of kfp.local
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
        step: the step that failed or was interrupted, if it is known.
        failure: the reason, if it is known.
    """

    outcome: Outcome
    step: str | None = None
    failure: Failure | None = None

    @property
    def mlflow_status(self) -> str:
        """The final status of the MLflow run."""
        return _MLFLOW[self.outcome]


@dataclass(frozen=True)
class RunResult:
    """The result of a run, as recorded by its steps and its MLflow run.

    Attributes:
        decision, reason: the decision of the download step and its reason.
        model, version: the registered model and version, which may already have existed before the run.
        aliases: the aliases of the version.
        word_perplexity: the word perplexity on the test split; None for a text without spaces between words.
        verdict: the verdict of the gate.
        bits_per_byte: the bits per byte on the test split.
        champion_refused: why the version with the alias champion is not served, as a sentence; "" if it is.
    """

    decision: str = ""
    reason: str = ""
    model: str = ""
    version: str = ""
    aliases: tuple[str, ...] = ()
    word_perplexity: float | None = None
    verdict: str = ""
    bits_per_byte: float | None = None
    champion_refused: str = ""


def conclude(state: str, record: Mapping[str, StepRecord] | None, decision: str = "", version: str = "") -> Ending:
    """Determines how a run ended. Its own record has precedence over the state from the orchestrator.

    Args:
        state: the state from the orchestrator, see `HINTS`; an unknown state is ignored.
        record: the record of the steps, see `components.shared.runtime.run_record`; None if the store cannot be
            reached.
        decision, version: the values from the MLflow run, which are used if there is no record.
    """
    hint, record = HINTS.get(state, "none"), record or {}
    started = record.get("download")
    decision = started.findings.get("decision", decision) if started else decision
    last = record.get(LAST_STEP)
    # A successful retry overwrites its record, so the run ended in a step that is not finished.
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
    """A step began and its end was not recorded. If the launcher reports a failure, it saw the process end."""
    if hint == "failed":
        what = "The process of the step was killed before it could record why, most often because memory ran out"
        remedy = "see `wikigpt status RUN` and `wikigpt logs RUN`, which ask Kubernetes for the reason"
        return Ending("failed", step, Failure(what, where=f"step {step}", remedy=remedy))
    what = "Its pod was deleted, evicted, ended by its time-out, or killed with all its processes"
    return Ending("interrupted", step, Interrupted(what, where=f"step {step}"))


def _ended_between_steps(hint: Hint, record: Mapping[str, StepRecord]) -> Ending:
    """No step of the record is unfinished, or there is no record because the store cannot be reached."""
    if hint != "failed":
        return Ending("interrupted")
    if not record:
        return Ending("failed")
    after = max(record, key=lambda name: record[name].began)
    what, remedy = f"No step began after {after}", "see `wikigpt status RUN` for the pod that could not be made"
    return Ending("failed", None, Failure(what, where="the run", remedy=remedy))


def sentence(run: str, ending: Ending, result: RunResult) -> str:
    """Describes the outcome in one or two sentences, and in one more if a champion is not served."""
    refused = f" The alias champion is not followed: {result.champion_refused}" if result.champion_refused else ""
    return f"{_outcome(run, ending, result)}{refused}"


def _outcome(run: str, ending: Ending, result: RunResult) -> str:
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
