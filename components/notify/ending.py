"""How a run ended, and the sentence that says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from components.shared.failure import ExitCode, Failure

Word = Literal["succeeded", "skipped", "failed", "interrupted"]
_MLFLOW = {"succeeded": "FINISHED", "skipped": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes:
        word: succeeded, skipped (there was nothing to train), failed, or interrupted (cancelled, killed, told to stop).
        step: that failed or was interrupted, where it is known.
        failure: what it said of it.
    """

    word: Word
    step: str | None = None
    failure: Failure | None = None

    @property
    def mlflow_status(self) -> str:
        """The state that the MLflow run is given."""
        return _MLFLOW[self.word]


@dataclass(frozen=True)
class Made:
    """What came of a run, as far as its MLflow run knows.

    Attributes:
        decision, reason: of the first step.
        model, version: of the registry; also where the run found them made already.
        aliases: that stand on the version.
        word_perplexity: on the test split.
        verdict: of the gate.
    """

    decision: str = ""
    reason: str = ""
    model: str = ""
    version: str = ""
    aliases: tuple[str, ...] = ()
    word_perplexity: float | None = None
    verdict: str = ""


def conclude(state: str, recorded: dict[str, Any] | None, decision: str) -> Ending:
    """The ending that the orchestrator's state, the failure in the store and the decision add up to.

    Args:
        state: of KFP: SUCCEEDED, FAILED, CANCELLED, ...
        recorded: the failure that a step of this run left, with its name as `step`; an attempt that was repeated and
            then succeeded leaves one too.
        decision: "train", "skip", or "" where the run did not come to it.
    """
    if state == "SUCCEEDED":
        return Ending("skipped" if decision == "skip" else "succeeded")
    failure = Failure.from_dict(recorded) if recorded else None
    step = recorded.get("step") if recorded else None
    stopped = failure is not None and failure.exit_code == ExitCode.RESUMABLE
    return Ending("interrupted" if state in ("CANCELLED", "CANCELED") or stopped else "failed", step, failure)


def sentence(run: str, ending: Ending, made: Made) -> str:
    """What a person reads, one or two sentences."""
    where = f" in {ending.step}" if ending.step else ""
    if ending.word == "failed":
        return f"Run {run} failed{where}: {ending.failure or 'no step said why; see the log of the run.'}"
    if ending.word == "interrupted":
        return f"Run {run} was interrupted{where}: run the same command again to go on."
    if ending.word == "skipped":
        return f"Run {run} trained nothing: {made.reason}.{_scores(made)}"
    return f"Run {run} succeeded: {_version(made)}.{_scores(made)}"


def _version(made: Made) -> str:
    if not made.version:
        return "it registered nothing"
    verdict = f", the gate says {made.verdict}" if made.verdict else ""
    return f"version {made.version} of {made.model} is registered{verdict}"


def _scores(made: Made) -> str:
    aliases = f", alias {' and '.join(made.aliases)}" if made.aliases else ""
    if made.word_perplexity is None:
        return ""
    return f" Version {made.version}: word perplexity {made.word_perplexity:.2f} on test{aliases}."
