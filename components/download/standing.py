"""What is known of a fingerprint: in the registry, in the store, and whether somebody trains it right now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.shared import registry
from components.shared.failure import Failure
from components.shared.liveness import alive, heartbeat_of
from components.shared.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Standing:
    """What is known of a fingerprint, see `decide`."""

    version: str | None
    model: bool
    checkpoint: bool


def look_up(store: Store, client: MlflowClient, model_name: str, fingerprint: str) -> Standing:
    """Asks the registry, which alone knows of versions, and the store."""
    version = registry.version_of(client, model_name, fingerprint)
    return Standing(
        version=str(version.version) if version else None,
        model=store.find("model", fingerprint) is not None,
        checkpoint=bool(store.names("checkpoint", f"{fingerprint}/")),
    )


def refuse_a_second_training(store: Store, fingerprint: str, pipeline_run: str) -> None:
    """Two runs of one fingerprint would make the same weights twice.

    Raises:
        Failure: another run that lives trains this fingerprint.
    """
    claim = store.claimed(f"training/{fingerprint}")
    other = claim.get("run") if claim else None
    if other and other != pipeline_run and alive(heartbeat_of(store, other)):
        raise Failure(
            f"The run {other} is training exactly this already (fingerprint {fingerprint[:12]}…)",
            where=store.uri,
            remedy="wait until it has ended, or cancel it; then run again to use what it made",
        )
