"""Promotion and rollback by a person: who did it, when and why is recorded on the version."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from components.register.alias_move import APPROVAL, finish_move, pending_move
from components.register.model_lock import fenced, model_lock, owner_of_command
from components.register.promotion import move_champion
from components.shared.base.failure import ExitCode, Failure
from components.shared.report.measures import finite
from components.shared.storage.store import Store
from components.shared.tracking import registry
from components.shared.tracking.accounts import own_name
from components.shared.tracking.announcement import Announcement
from pipelines.planned_changes import Change, apply_changes
from pipelines.registry.approval import Approved, refusal, refused_champion, require_promoter
from pipelines.registry.references import model_name, reference_of, resolve
from pipelines.registry.verification import require_verified

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

# The seconds to wait for a run or a command that changes the same model. A killed process counts as alive for less.
_PATIENCE = 240.0
_COPIED_FROM = "wikigpt.copied_from"
ROLLOUT_TAGS = (registry.ROLLOUT_FAILED, registry.ROLLOUT_RETURNED)
_PROMOTED = ("wikigpt.promoted_by", "wikigpt.promoted_at", "wikigpt.promoted_reason")


@dataclass(frozen=True)
class Moved:
    """The outcome of a promotion or a rollback.

    Attributes:
        model: the registered model.
        version: the version that is the champion now.
        before: the champion before, or None.
    """

    model: str
    version: str
    before: str | None


def promote(
    client: MlflowClient,
    reference: str,
    *,
    reason: str,
    model: str | None = None,
    to: str | None = None,
    store: Store | None = None,
    report: Callable[[str], object] = lambda _: None,
) -> Moved:
    """Makes a version the champion, here or as a copy in another registered model (another environment).

    Args:
        client: a client of the registry.
        reference: the version, see `resolve`.
        reason: the reason that is recorded on the version.
        model: the name of the registered model, see `resolve`.
        to: the registered model to copy the version to. It is created if it does not exist, and gets one copy
            of each version.
        store: the store with the lock on the registered model; None moves the alias without the lock.
        report: a function that is called with the description of each change after it was applied.

    Raises:
        Failure: there is no reason or no such version, the version must not be the champion or does not verify by the
            configured public key, this account is no promoter, or a run does not release the lock.
    """
    version = _promotable(client, reference, reason, model)
    by = require_promoter(client)
    with locked(client, store, to or version.name, "promote") as held:
        promotion = _Promotion(held, version, reason, to, by)
        apply_changes(promotion.changes(), report)
        return promotion.outcome()


def plan_promotion(
    client: MlflowClient, reference: str, *, reason: str, model: str | None = None, to: str | None = None
) -> list[Change]:
    """Lists the changes that `promote` would apply, without the lock, and changes nothing.

    Raises:
        Failure: see `promote`.
    """
    version = _promotable(client, reference, reason, model)
    return _Promotion(client, version, reason, to, require_promoter(client)).changes()


def rollback(
    client: MlflowClient,
    *,
    reason: str,
    model: str | None = None,
    store: Store | None = None,
    report: Callable[[str], object] = lambda _: None,
) -> Moved:
    """Moves the alias back to the previous champion. The gate never promotes the version that loses it again.

    Args:
        client: a client of the registry.
        reason: the reason that is recorded on the version that loses the alias.
        model: the name of the registered model, see `model_name`.
        store: see `promote`.
        report: see `promote`.

    Raises:
        Failure: there is no reason, no champion, or no previous champion that still exists, this account is no
            promoter, or a run does not release the lock.
    """
    _require_reason(reason)
    name, by = model_name(client, model), require_promoter(client)
    with locked(client, store, name, "rollback") as held:
        back = _Rollback(held, name, reason, by)
        apply_changes(back.changes(), report)
        return back.outcome()


def plan_rollback(client: MlflowClient, *, reason: str, model: str | None = None) -> list[Change]:
    """Lists the changes that `rollback` would apply, without the lock, and changes nothing.

    Raises:
        Failure: see `rollback`.
    """
    _require_reason(reason)
    return _Rollback(client, model_name(client, model), reason, require_promoter(client)).changes()


class _Promotion:
    """The changes of a promotion. Each reads the registry again when it is applied, since a person may move an
    alias meanwhile."""

    def __init__(self, client: MlflowClient, version: ModelVersion, reason: str, to: str | None, by: str):
        self.client, self.version, self.reason, self.by = client, version, reason, by
        self.name = to or version.name
        self.before: str | None = None
        self.is_done = False

    def changes(self) -> list[Change]:
        """Reads the registry and lists what is to change."""
        changes, number, label = [], str(self.version.version), f"version {self.version.version}"
        if self.name != self.version.name:
            copy = _existing_copy(self.client, self.version, self.name)
            number, label = (str(copy.version), f"version {copy.version}") if copy else ("", "the copy")
            if copy is None or _uncleared(copy, self.version):
                source = f"version {self.version.version} of {self.version.name}"
                changes.append(Change(f"copy {source} to {self.name}", self._copy))
            else:
                _require_promotable(self.client, copy)
                self.version = copy
        finish = _finish(self.client, self.name)
        changes += finish.changes
        self.before = finish.champion
        stands = bool(number) and finish.champion == number
        if stands and not _refused(self.client, self.name, number):
            again = Change(f"let {label} of {self.name} be rolled out again", self._forgive)
            return [*changes, again] if registry.ROLLOUT_FAILED in self.version.tags else changes
        record = f"record on {label} of {self.name} who promoted it, when and why"
        move = f"move the alias champion of {self.name} from {_label(finish.champion)} to {label}"
        if stands:
            move = f"confirm that {label} is the champion of {self.name}"
        return [*changes, Change(record, self._record), Change(move, self._move)]

    def outcome(self) -> Moved:
        return Moved(self.name, str(self.version.version), self.before)

    def _copy(self) -> None:
        self.version = _copy(self.client, self.version, self.name)

    def _record(self) -> None:
        number = str(self.version.version)
        champion = registry.version_with_alias(self.client, self.name, registry.CHAMPION)
        self.before = str(champion.version) if champion else None
        refused = _refused(self.client, self.name, self.before or "")
        self.is_done = self.before == number and refused is None
        if self.is_done:
            return
        for tag, value in zip(_PROMOTED, _record(self.reason, self.by), strict=True):
            self.client.set_model_version_tag(self.name, number, tag, value)
        before = refused.version if refused else self.before
        if before and before != number:
            self.client.set_model_version_tag(self.name, number, registry.CHAMPION_BEFORE, before)
        self._forgive()

    def _forgive(self) -> None:
        """Removes the tags of a version that was taken back, because a person has chosen it again."""
        for tag in (registry.ROLLED_BACK, *ROLLOUT_TAGS):
            if tag in self.version.tags:
                self.client.delete_model_version_tag(self.name, str(self.version.version), tag)

    def _move(self) -> None:
        if not self.is_done:
            move_champion(self.client, self.name, str(self.version.version), by=self.by, reason=self.reason)


class _Rollback:
    """The changes of a rollback. Each reads the registry again when it is applied, since a person may move an
    alias meanwhile."""

    def __init__(self, client: MlflowClient, name: str, reason: str, by: str):
        self.client, self.name, self.reason, self.by = client, name, reason, by
        self.loser, self.winner = "", ""

    def changes(self) -> list[Change]:
        """Reads the registry and lists what is to change."""
        finish = _finish(self.client, self.name)
        made = finish.made
        if made and made.before and self._is_rolled_back(made.before):
            # A rollback was interrupted, and this one finishes it.
            self.loser, self.winner = made.before, made.version
            return finish.changes
        self.loser, self.winner = self._versions(finish.champion, finish.last_champion)
        mark = f"record on version {self.loser} of {self.name} that it was rolled back, when, by whom and why"
        back = f"move the alias champion of {self.name} from version {self.loser} to version {self.winner}"
        return [*finish.changes, Change(mark, self._record), Change(back, self._move)]

    def outcome(self) -> Moved:
        return Moved(self.name, self.winner, self.loser)

    def _is_rolled_back(self, number: str) -> bool:
        return registry.ROLLED_BACK in self.client.get_model_version(self.name, number).tags

    def _versions(self, number: str | None, last: str | None) -> tuple[str, str]:
        """The champion, and the champion before it."""
        if number is None:
            raise _impossible(f"{self.name} has no champion to roll back from", self.name)
        if (refused := _refused(self.client, self.name, number)) and refused.version:
            return number, refused.version
        champion = self.client.get_model_version(self.name, number)
        before = _champion_before(self.client, champion, last)
        if before is None:
            raise _impossible(f"No champion before version {number} of {self.name} is on record", self.name)
        return number, before

    def _record(self) -> None:
        champion = registry.version_with_alias(self.client, self.name, registry.CHAMPION)
        last = self.client.get_registered_model(self.name).tags.get(registry.LAST_CHAMPION)
        self.loser, self.winner = self._versions(str(champion.version) if champion else None, last)
        by, at, _ = _record(self.reason, self.by)
        said = f"{at} by {by}: {self.reason}"[:5000]
        self.client.set_model_version_tag(self.name, self.loser, registry.ROLLED_BACK, said)

    def _move(self) -> None:
        move_champion(self.client, self.name, self.winner, by=self.by, reason=self.reason)


@dataclass(frozen=True)
class _Finish:
    """What becomes of a move that another run or command announced and did not finish.

    Attributes:
        changes: the change that finishes or discards the move, if one was announced.
        champion: the champion after it, or None.
        last_champion: the tag of the registered model after it, or None.
        made: the move, if it is finished.
    """

    changes: list[Change]
    champion: str | None
    last_champion: str | None
    made: Announcement | None


def _finish(client: MlflowClient, name: str) -> _Finish:
    """Reads the announced move of a registered model, which may not exist yet."""
    from mlflow.exceptions import MlflowException

    try:
        last = client.get_registered_model(name).tags.get(registry.LAST_CHAMPION)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return _Finish([], None, None, None)
    holder = registry.version_with_alias(client, name, registry.CHAMPION)
    champion = str(holder.version) if holder else None
    pending = pending_move(client, name)
    if pending is None:
        return _Finish([], champion, last, None)
    move, makes = pending
    end = partial(finish_move, client, name)
    if not makes:
        discard = Change(f"discard the announced move of the alias champion of {name}", end)
        return _Finish([discard], champion, last, None)
    finish = Change(f"finish the announced move of the alias champion of {name} to version {move.version}", end)
    moved = champion if last == move.version else move.version
    return _Finish([finish], moved, move.version, move)


@contextmanager
def locked(client: MlflowClient, store: Store | None, model: str, command: str) -> Iterator[MlflowClient]:
    """Yields a client that writes only while this command holds the lock on the model, if `store` is given."""
    if store is None:
        yield client
        return
    owner = owner_of_command(command, own_name())
    with model_lock(store, model).held(owner, patience=_PATIENCE) as held:
        yield fenced(client, held.renew)  # a command has no heartbeat, so each write renews the lock


def _champion_before(client: MlflowClient, champion: ModelVersion, last: str | None) -> str | None:
    """Finds the previous champion in the record of our moves, or the last recorded one if a person moved the alias.

    Args:
        client: a client of the registry.
        champion: the current champion.
        last: the tag LAST_CHAMPION of the registered model.
    """
    name, number = champion.name, str(champion.version)
    versions = {str(version.version): version for version in registry.versions(client, name)}
    before = champion.tags.get(registry.CHAMPION_BEFORE) if last in (number, None) else last
    seen = {number}
    while before and before not in seen:
        seen.add(before)
        version = versions.get(before)
        if version is None:
            return None
        if registry.ROLLED_BACK not in version.tags:
            return before
        before = version.tags.get(registry.CHAMPION_BEFORE)
    return None


def _existing_copy(client: MlflowClient, version: ModelVersion, to: str) -> ModelVersion | None:
    weights = version.tags.get(registry.WEIGHTS_DIGEST)
    return registry.version_of(client, to, weights) if weights else None


def _uncleared(copy: ModelVersion, version: ModelVersion) -> bool:
    """Whether a copy of a version was made and still has the tags of the model that it was copied from."""
    return copy.source == _address(version) and _COPIED_FROM not in copy.tags


def _copy(client: MlflowClient, version: ModelVersion, to: str) -> ModelVersion:
    address = _address(version)
    copy = _existing_copy(client, version, to) or client.copy_model_version(address, to)
    if not _uncleared(copy, version):
        _require_promotable(client, copy)
        return copy
    number = str(copy.version)
    # What another environment decided is not decided here.
    for tag in {APPROVAL, registry.CHAMPION_BEFORE, registry.ROLLED_BACK, *ROLLOUT_TAGS, *_PROMOTED} & copy.tags.keys():
        client.delete_model_version_tag(to, number, tag)
    client.set_model_version_tag(to, number, _COPIED_FROM, address)
    return client.get_model_version(to, number)


def _address(version: ModelVersion) -> str:
    return f"models:/{version.name}/{version.version}"


def _label(number: str | None) -> str:
    return f"version {number}" if number else "no version"


def _promotable(client: MlflowClient, reference: str, reason: str, model: str | None) -> ModelVersion:
    _require_reason(reason)
    name, named = reference_of(client, reference, model)
    if named == registry.CHAMPION and (refused := refused_champion(client, name)):
        raise Failure(
            f"The alias {named} names no approved champion: {refused.reason.rstrip('.')}",
            where=f"model {name}",
            remedy="name the version by its number",
            exit_code=ExitCode.USAGE,
        )
    version = resolve(client, reference, model)
    _require_promotable(client, version)
    return version


def _require_promotable(client: MlflowClient, version: ModelVersion) -> None:
    _refuse_unfit(version)
    require_verified(client, version)


def _refused(client: MlflowClient, name: str, number: str) -> Approved | None:
    """The approved champion if the alias is on this version, which must not be served; else None."""
    found = refusal(client, name)
    return found if found and found.refused and found.refused.version == number else None


def _refuse_unfit(version: ModelVersion) -> None:
    where = f"version {version.version} of {version.name}"
    if version.status != "READY":
        raise Failure(f"The version is {version.status}", where=where, remedy="promote one that is READY")
    measured = {measure: version.tags.get(registry.score_tag("validation", measure)) for measure in registry.MEASURES}
    # Every text has bits per byte. Older versions have the tag `nan`; later ones have no tag without a number.
    value = measured["bits_per_byte"] or measured["word_perplexity"]
    unmeasured = value is None and version.tags.get(registry.VERDICT) == "invalid"
    if unmeasured or (value is not None and finite(value) is None):
        raise Failure(
            f"The model of this version is not sound: its perplexity on validation is {value or 'no number'}",
            where=where,
            remedy="promote one that is sound",
        )


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise Failure(
            "The reason is empty",
            where="--reason",
            remedy="give the reason, which is recorded",
            exit_code=ExitCode.USAGE,
        )


def _record(reason: str, by: str) -> tuple[str, str, str]:
    return by, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), reason[:5000]


def _impossible(what: str, model: str) -> Failure:
    return Failure(what, where=f"model {model}", remedy="choose a version by `wikigpt models` and `wikigpt promote`")
