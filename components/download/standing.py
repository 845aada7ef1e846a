"""What is known of a fingerprint, in the registry and in the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.shared import registry
from components.shared.storage.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Standing:
    """What is known of a fingerprint, see `decide`."""

    version: str | None
    model: bool
    checkpoint: bool


def look_up(store: Store, client: MlflowClient, model_name: str, fingerprint: str) -> Standing:
    """Asks the registry, which alone knows of versions, and the store.

    A version that was not registered to its end, alias and card included, does not count: the run that goes on does it.
    """
    version = registry.version_of(client, model_name, fingerprint)
    return Standing(
        version=str(version.version) if version and registry.REGISTERED in version.tags else None,
        model=store.find("model", fingerprint) is not None,
        checkpoint=bool(store.names("checkpoint", f"{fingerprint}/")),
    )
