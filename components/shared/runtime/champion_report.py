"""Reports a version that has the alias `champion` and must not be served."""

from __future__ import annotations

from components.shared.base.events import emit
from components.shared.runtime.step import Step
from components.shared.tracking.approval import approved_champion


def report_champion(step: Step, model: str) -> None:
    """Reports it in the log and to the notification; without promoters, nothing is asked.

    Args:
        step: the context of the step.
        model: the name of the registered model.
    """
    if not step.promoters:
        return
    refused = approved_champion(step.tracking.client, model, step.promoters).refused
    step.findings.update(champion_refused=refused.reason if refused else None)
    if refused:
        emit("note", text=f"The alias champion of {model} is not followed: {refused.reason}")
