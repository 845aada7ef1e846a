"""The exit handler: says how the run ended, in the log, in MLflow and to a webhook, whatever happened."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from typing import Any

from components.notify.ending import Ending, Made, conclude, sentence
from components.notify.settings import NotifySettings
from components.notify.webhook import deliver
from components.shared import registry
from components.shared.events import emit
from components.shared.failure import Failure
from components.shared.liveness import end_heartbeat
from components.shared.step import Step
from components.shared.tracking import Tracking, plainly

_log = logging.getLogger(__name__)


def run(step: Step, status: Mapping[str, Any]) -> None:
    """Tells the end of a run and closes what the run holds open: its MLflow run and its heartbeat.

    Args:
        step: what every step is handed.
        status: `state`, `error_code` and `error_message`, as KFP's PipelineTaskFinalStatus has them; a command that
            killed a run says CANCELLED.

    Raises:
        Failure: a setting does not fit. A service that is away is a warning.
    """
    settings = step.section(NotifySettings)
    tracking = _tracking(step)
    made = _made(tracking)
    ending = conclude(status["state"], _recorded(step), made.decision)
    text = sentence(step.run, ending, made)
    document = _document(step.run, ending, made, text, tracking)
    emit("notice", **document)
    if address := os.environ.get(settings.webhook_variable) or settings.webhook:
        deliver(address, document, timeout=settings.timeout)
    _close(tracking, ending, text)
    _end_heartbeat(step)


def _tracking(step: Step) -> Tracking | None:
    """The MLflow run, or None where MLflow is away: the rest of the notice does not wait for it."""
    try:
        return step.tracking
    except Failure as failure:
        _log.warning("The end of the run is not recorded: %s", failure)
        return None


def _recorded(step: Step) -> dict[str, Any] | None:
    """The failure that a step left in the store, or None."""
    try:
        return step.store.claimed(f"failures/{step.run}")
    except Failure as failure:
        _log.warning("Why the run ended is not known: %s", failure)
        return None


def _end_heartbeat(step: Step) -> None:
    try:
        end_heartbeat(step.store, step.run)
    except Failure as failure:
        _log.warning("The run counts as living for an hour: %s", failure)


def _made(tracking: Tracking | None) -> Made:
    """What the steps wrote of themselves; nothing where MLflow or the version is gone."""
    if tracking is None:
        return Made()
    try:
        with plainly(tracking.client):
            tags = tracking.client.get_run(tracking.run_id).data.tags
            model, _, number = tags.get(registry.MODEL_VERSION, "").partition("/")
            version = tracking.client.get_model_version(model, number) if number else None
    except Failure as failure:
        _log.warning("What the run made is not told: %s", failure)
        return Made()
    perplexity = version.tags.get(registry.score_tag("test", "word_perplexity")) if version else None
    return Made(
        decision=tags.get(registry.DECISION, ""),
        reason=tags.get(registry.DECISION_REASON, ""),
        model=model,
        version=number,
        aliases=tuple(sorted(version.aliases)) if version else (),
        word_perplexity=float(perplexity) if perplexity and math.isfinite(float(perplexity)) else None,
        verdict=tags.get(registry.VERDICT, ""),
    )


def _document(run: str, ending: Ending, made: Made, text: str, tracking: Tracking | None) -> dict[str, Any]:
    """What the event and the webhook carry; `text` is what chat services show."""
    return {
        "text": text,
        "run": run,
        "ending": ending.word,
        "step": ending.step,
        "failure": ending.failure.to_dict() if ending.failure else None,
        "decision": made.decision,
        "reason": made.reason,
        "model": made.model,
        "version": made.version,
        "aliases": list(made.aliases),
        "word_perplexity": made.word_perplexity,
        "verdict": made.verdict,
        "mlflow_run": tracking.run_id if tracking else None,
    }


def _close(tracking: Tracking | None, ending: Ending, text: str) -> None:
    if tracking is None:
        return
    try:
        with plainly(tracking.client):
            tracking.tags({"wikigpt.ending": ending.word, "wikigpt.notice": text})
            tracking.finish(ending.mlflow_status)
    except Failure as failure:
        _log.warning("The end of the run is not recorded: %s", failure)
