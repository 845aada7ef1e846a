"""The champion that may be served, for commands: the promoters are those of `WIKIGPT_PROMOTERS`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.shared.base.failure import ExitCode, Failure
from components.shared.tracking import approval, registry
from components.shared.tracking.accounts import current_account
from components.shared.tracking.approval import VARIABLE, Approved, Refused, promoters_of_environment
from pipelines.registry.references import reference_of, resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow import MlflowClient

    from components.shared.tracking.sqlite_registry import AnyVersion, RegistryReader

__all__ = [
    "Approved",
    "Refused",
    "approved_champion",
    "refusal",
    "refused_champion",
    "require_promoter",
    "resolve_served",
]


def approved_champion(client: RegistryReader, model: str, promoters: tuple[str, ...] | None = None) -> Approved:
    """The newest champion that may be served, and why the version with the alias may not if it is another one.

    Args:
        client: a client of the registry, or the database.
        model: the name of the registered model.
        promoters: the MLflow accounts that may move the alias; by default those of `WIKIGPT_PROMOTERS`.
    """
    names = promoters_of_environment() if promoters is None else promoters
    return approval.approved_champion(client, model, names)


def refusal(client: RegistryReader, model: str) -> Approved | None:
    """The approved champion if the version with the alias must not be served; else None. Without promoters, nothing is
    read.
    """
    approved = approved_champion(client, model) if promoters_of_environment() else None
    return approved if approved and approved.refused else None


def refused_champion(client: RegistryReader, model: str) -> Refused | None:
    """Why the version with the alias must not be served; None if it may be. Without promoters, nothing is read."""
    found = refusal(client, model)
    return found.refused if found else None


def resolve_served(
    client: RegistryReader,
    reference: str,
    model: str | None = None,
    *,
    note: Callable[[str], object],
    on_refusal: Callable[[str], object] = lambda version: None,
) -> AnyVersion:
    """Finds the version that a reference names, for a command that serves it; `champion` is the approved champion.

    Args:
        client, reference, model: see `resolve`.
        note: is called with a sentence if the version with the alias must not be served, and another one is.
        on_refusal: is called with the number of the version with the alias if it must not be served; "" if the alias
            was removed.

    Raises:
        Failure: see `resolve`; or no champion may be served.
    """
    name, number = reference_of(client, reference, model)
    if number != registry.CHAMPION or not promoters_of_environment():
        return resolve(client, reference, model)
    approved = approved_champion(client, name)
    if approved.refused is None:
        return resolve(client, approved.version or registry.CHAMPION, name)  # the alias may have moved since
    on_refusal(approved.refused.version)
    if approved.version is None:
        raise Failure(
            f"No champion of {name} may be served: {approved.refused.reason.rstrip('.')}",
            where=client.tracking_uri,
            remedy="name a version by its number",
            exit_code=ExitCode.UNAUTHORISED,
        )
    note(f"{approved.refused.reason} Version {approved.version} is still the approved champion.")
    return resolve(client, approved.version, name)


def require_promoter(client: MlflowClient) -> str:
    """Returns the account that moves the alias champion.

    Raises:
        Failure: there is a list of promoters, and this account is not among them.
    """
    promoters, account = promoters_of_environment(), current_account(client)
    if promoters and account not in promoters:
        raise Failure(
            f"{account or 'This user'} is no promoter, and only promoters move the alias {registry.CHAMPION}",
            where=VARIABLE,
            remedy=f"let one of them do it: {', '.join(promoters)}",
            exit_code=ExitCode.UNAUTHORISED,
        )
    return account
