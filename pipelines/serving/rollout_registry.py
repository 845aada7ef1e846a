"""What a rollout asks of the registry, and what it tells it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.shared.storage.store import Store
from components.shared.tracking import registry
from pipelines.serving.rejection import forget_rejection, reject, send_notice
from pipelines.serving.wanted import wanted_version

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class RolloutRegistry:
    """What a rollout asks of the registry.

    Attributes:
        wanted: called with the number of a version that was examined before; returns that of the version that is to be
            served. Raises a Failure if there is none, or if another one must not be served.
        exists: whether a version exists.
        reject: called with a version that failed, the one that is served ("" for none), and the reason.
        accept: called with a version that is served now.
    """

    wanted: Callable[[str], str]
    exists: Callable[[str], bool]
    reject: Callable[[str, str, str], object]
    accept: Callable[[str], object]


def registry_for_rollout(
    client: MlflowClient, model: str, store: Store | None, report: Callable[[str], object]
) -> RolloutRegistry:
    """What a rollout asks of the registry, for a registered model.

    Args:
        client: a client of the registry.
        model: the name of the registered model.
        store: the store with the lock on the model; None moves the alias without the lock.
        report: called with a sentence if the version with the alias must not be served, and an earlier one is wanted.
    """
    said: set[str] = set()

    def wanted(served: str) -> str:
        found = wanted_version(client, model, served)
        if found.refused and found.refused not in said:
            report(found.refused)
            said.add(found.refused)
        return found.version

    def reject_version(version: str, served: str, reason: str) -> None:
        reject(client, model, version, served or None, reason, store, send_notice)

    return RolloutRegistry(
        wanted=wanted,
        exists=lambda version: registry.has_version(client, model, version),
        reject=reject_version,
        accept=lambda version: forget_rejection(client, model, version),
    )
