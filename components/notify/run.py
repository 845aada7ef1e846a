"""The exit handler: reports the outcome of every run in the log, in MLflow and to a webhook."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from components.notify.ending import Ending, RunResult, conclude, sentence
from components.notify.settings import NotifySettings
from components.notify.webhook import deliver
from components.shared.base.events import emit
from components.shared.base.failure import Failure
from components.shared.base.redact import redact
from components.shared.report.measures import finite
from components.shared.runtime.liveness import end_heartbeat
from components.shared.runtime.run_record import StepRecord, read_log, read_record
from components.shared.runtime.step import Step
from components.shared.tracking import registry
from components.shared.tracking.run import Tracking, translate_mlflow_errors

_log = logging.getLogger(__name__)
Record = Mapping[str, StepRecord]


def run(step: Step, status: Mapping[str, Any]) -> None:
    """Reports the end of a run, and closes its MLflow run and its heartbeat.

    Every error is only a warning, because a notice must not fail a run. The MLflow run and the heartbeat are closed
    before the call of the webhook, which may be slow.

    Args:
        step: the context of the step.
        status: `state`, `error_code` and `error_message` of KFP's PipelineTaskFinalStatus; a command that cancels a
            run passes the state CANCELED.
    """
    record, tracking = _record(step), _tracking(step)
    result = _result(record or {}, tracking)
    ending = conclude(status["state"], record, result.decision, result.version)
    text = sentence(step.run, ending, result)
    document = _document(step.run, ending, result, text, record or {}, tracking)
    emit("notice", **document)
    _close(step, record or {}, tracking, ending, text)
    with _warned("The run counts as alive until its deadline"):
        end_heartbeat(step.store, step.run)
    with _warned("The notice was not delivered"):
        settings = step.section(NotifySettings)
        if address := os.environ.get(settings.webhook_variable) or settings.webhook:
            deliver(address, document, timeout=settings.timeout)


@contextmanager
def _warned(consequence: str) -> Iterator[None]:
    """Turns every exception inside the block into a warning."""
    try:
        yield
    except Exception as error:
        text = str(error) if isinstance(error, Failure) else redact(f"{type(error).__name__}: {error}")
        _log.warning("%s: %s", consequence, text)


def _tracking(step: Step) -> Tracking | None:
    """Returns the MLflow run, or None if MLflow cannot be reached: the rest of the notice does not need it."""
    with _warned("The end of the run is not recorded in MLflow"):
        return step.tracking
    return None


def _record(step: Step) -> Record | None:
    """Returns the record of the steps, or None if the store cannot be reached."""
    with _warned("The record of the steps cannot be read"):
        return read_record(step.store, step.run)
    return None


def _result(record: Record, tracking: Tracking | None) -> RunResult:
    """Returns the result of the run from the record of its steps, else from the tags of its MLflow run."""
    findings: dict[str, Any] = {}
    for step in record.values():
        findings |= step.findings
    tags, version = _in_mlflow(tracking, findings)
    model, _, number = tags.get(registry.MODEL_VERSION, "").partition("/")
    measured = version.tags if version else {}
    return RunResult(
        decision=findings.get("decision", tags.get(registry.DECISION, "")),
        reason=findings.get("reason", tags.get(registry.DECISION_REASON, "")),
        model=findings.get("model", model),
        version=findings.get("version") or number,
        aliases=tuple(sorted(version.aliases)) if version else (),
        word_perplexity=finite(measured.get(registry.score_tag("test", "word_perplexity"))),
        bits_per_byte=finite(measured.get(registry.score_tag("test", "bits_per_byte"))),
        verdict=findings.get("verdict", tags.get(registry.VERDICT, "")),
        champion_refused=findings.get("champion_refused") or "",
    )


def _in_mlflow(tracking: Tracking | None, findings: dict[str, Any]) -> tuple[dict[str, str], Any]:
    """Returns the tags of the MLflow run and the version of the run, or nothing if MLflow cannot be reached."""
    tags: dict[str, str] = {}
    if tracking is None:
        return tags, None
    with _warned("The version of the run cannot be read"), translate_mlflow_errors(tracking.client):
        tags.update(tracking.client.get_run(tracking.run_id).data.tags)
        model, _, number = tags.get(registry.MODEL_VERSION, "").partition("/")
        model, number = findings.get("model", model), findings.get("version") or number
        return tags, tracking.client.get_model_version(model, number) if number else None
    return tags, None


def _document(
    run: str, ending: Ending, result: RunResult, text: str, record: Record, tracking: Tracking | None
) -> dict[str, Any]:
    """Returns the document for the event and the webhook. Chat services show its `text`."""
    return {
        "text": text,
        "run": run,
        "ending": ending.outcome,
        "step": ending.step,
        "failure": ending.failure.to_dict() if ending.failure else None,
        "decision": result.decision,
        "reason": result.reason,
        "model": result.model,
        "version": result.version,
        "aliases": list(result.aliases),
        "word_perplexity": result.word_perplexity,
        "bits_per_byte": result.bits_per_byte,
        "verdict": result.verdict,
        "champion_refused": result.champion_refused or None,
        "reports": {name: step.findings["report"] for name, step in record.items() if "report" in step.findings},
        "mlflow_run": tracking.run_id if tracking else None,
    }


def _close(step: Step, record: Record, tracking: Tracking | None, ending: Ending, text: str) -> None:
    """Ends the MLflow run, with the logs of its steps as artifacts, which are kept longer than the pods."""
    if tracking is None:
        return
    with _warned("The MLflow run stays open"), translate_mlflow_errors(tracking.client):
        tracking.finish(ending.mlflow_status)
    with _warned("The end of the run is not among its tags in MLflow"), translate_mlflow_errors(tracking.client):
        tracking.tags({"wikigpt.ending": ending.outcome, "wikigpt.notice": text})
    with _warned("The logs of the steps are not in MLflow"), translate_mlflow_errors(tracking.client):
        for name in record:
            if (log := read_log(step.store, step.run, name)) is not None:
                tracking.client.log_text(tracking.run_id, log, f"logs/{name}.txt")
