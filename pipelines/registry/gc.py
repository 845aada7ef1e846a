"""What may go: checkpoints, folders, blobs and runs that no version needs, old enough and used by no living run.

Versions are never removed, and what a version names in the store stays: its model and evaluations, which are under the
digest of its weights, its tokens, and what an earlier wikigpt kept under its fingerprint.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from components.shared.base.failure import ExitCode, Failure
from components.shared.reuse import trained
from components.shared.reuse.training_lock import trainings
from components.shared.runtime.liveness import alive, heartbeat_of
from components.shared.storage.lock import idle
from components.shared.storage.objects import OldVersion
from components.shared.storage.store import Store
from components.shared.tracking import registry
from components.shared.tracking.run import PIPELINE_RUN_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Kind = Literal["checkpoint", "model", "evaluation", "tokens", "record", "blob", "old version", "run"]
_FOLDERS: tuple[Kind, ...] = ("checkpoint", "model", "evaluation", "tokens")
_OF_RUN = ("heartbeats/", "steps/", "logs/")
# What an earlier wikigpt kept in place of locks.
_FORMER = ("training/", "versions/")
_OF_VERSIONS = (registry.WEIGHTS_DIGEST, registry.REUSE_KEY, registry.TOKENS_KEY, registry.FINGERPRINT)
_OF_RUNS = (registry.REUSE_KEY, registry.TOKENS_KEY, registry.FINGERPRINT)
DAY = 86400.0
KEEP_FOR = 7 * DAY


@dataclass(frozen=True)
class Removal:
    """One thing that may go.

    Attributes:
        kind: what it is.
        name: in the store (of a blob and of an old version the key), or the id of an MLflow run.
        size: bytes of the object itself; a folder's bytes are its blobs.
        reason: why nothing needs it, a phrase.
    """

    kind: Kind
    name: str
    size: int
    reason: str


@dataclass(frozen=True)
class Waste:
    """What may go, and what was left alone and why."""

    removals: tuple[Removal, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Needs:
    """What must stay: what versions name, their MLflow runs, what living runs work on, what is RUNNING."""

    names: frozenset[str]
    runs: frozenset[str]
    sources: frozenset[str]
    busy: frozenset[str]
    living: frozenset[str]
    running: frozenset[str]


def gc(store: Store, client: MlflowClient, *, apply: bool = False, keep_for: float = KEEP_FOR) -> Waste:
    """Lists what may go, and removes it if told to.

    Args:
        store: whose checkpoints, folders and blobs are looked at.
        client: of the registry that says what is needed; it must be the one that the store's runs registered in.
        apply: remove.
        keep_for: seconds for which even what nothing needs is kept.

    Returns:
        What may go, or with `apply` what is gone.

    Raises:
        Failure: the registry knows none of the runs that the store knows, so it is that of another store.
    """
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = list(_runs(client, experiments))
    heard = {name.removeprefix("heartbeats/") for name in store.claims("heartbeats/")}
    _refuse_another_registry(store, client, heard, runs)
    needs = _needs(store, client, heard, runs)
    before = time.time() - keep_for
    folders = list(_folders(store, needs, before))
    removals = [*folders, *_records(store, folders), *_claims(store, needs, before), *_old_runs(runs, needs, before)]
    versions, notes = _old_versions(store, keep_for, free=apply)
    removals += [Removal("old version", old.key, old.size, "replaced or deleted, and old") for old in versions]
    if needs.living:
        notes.append(f"Blobs are left alone while a run lives: {', '.join(sorted(needs.living))}.")
    else:
        unused = store.unused(spare=0, without=[(folder.kind, folder.name) for folder in folders])
        yesterday = time.time() - DAY  # somebody who publishes right now has blobs without a folder
        young = [blob for blob in unused if blob.changed > yesterday]
        old = [blob for blob in unused if blob.changed <= yesterday]
        removals += [Removal("blob", blob.key, blob.size, "no folder names it") for blob in old]
        if young:
            size = sum(blob.size for blob in young) / (1 << 20)
            notes.append(f"{size:.1f} MiB of blobs that no folder names, or none will, go when they are a day old.")
    if apply:
        _remove(store, client, removals, needs)
        if store.keeps_versions:
            notes.append("The bucket keeps what was removed as old versions, which these credentials may not delete.")
    return Waste(tuple(removals), tuple(notes))


def _refuse_another_registry(store: Store, client: MlflowClient, heard: set[str], runs: list[Run]) -> None:
    """To another registry all that the store holds would look like waste."""
    if heard and heard.isdisjoint(run.data.tags.get(PIPELINE_RUN_TAG, "") for run in runs):
        raise Failure(
            f"The registry knows none of the {len(heard)} runs of the store and cannot say what they need",
            where=f"registry {client.tracking_uri}, store {store.uri}",
            remedy="give the two that belong together, by MLFLOW_TRACKING_URI and --store",
            exit_code=ExitCode.USAGE,
        )


def _needs(store: Store, client: MlflowClient, heard: set[str], runs: list[Run]) -> _Needs:
    models = client.search_registered_models(max_results=1000)
    versions = [version for model in models for version in registry.versions(client, model.name)]
    living = frozenset(run for run in heard if alive(heartbeat_of(store, run)))
    busy = {reuse_key for reuse_key, run in trainings(store) if run in living}
    ours = (r.data.tags for r in runs if r.data.tags.get(PIPELINE_RUN_TAG) in living)
    busy |= {tags[tag] for tags in ours for tag in _OF_RUNS if tag in tags}
    busy |= {result.weights_digest for result in trained.training_results(store) if result.reuse_key in busy}
    return _Needs(
        names=frozenset(v.tags[tag] for v in versions for tag in _OF_VERSIONS if tag in v.tags),
        runs=frozenset(run for v in versions for run in (v.run_id, v.tags.get(registry.EVALUATION_RUN)) if run),
        sources=frozenset(v.source or "" for v in versions),
        busy=frozenset(busy),
        living=living,
        running=frozenset(r.data.tags.get(PIPELINE_RUN_TAG, "") for r in runs if r.info.status == "RUNNING"),
    )


def _runs(client: MlflowClient, experiments: list[str]) -> Iterator[Run]:
    token = None
    while True:
        page = client.search_runs(experiments, page_token=token)
        yield from page
        if not (token := page.token):
            return


def _folders(store: Store, needs: _Needs, before: float) -> Iterator[Removal]:
    over = needs.names | set(store.names("model")) | {result.reuse_key for result in trained.training_results(store)}
    for kind in _FOLDERS:
        for entry in store.folders(kind):
            key = entry.key.partition("/")[0]
            if key in needs.busy:
                continue
            if kind == "checkpoint" and key in over:
                yield Removal(kind, entry.key, entry.size, "its training is over")
            elif key not in needs.names and entry.changed < before:
                yield Removal(kind, entry.key, entry.size, "no version names it, and it is old")


def _records(store: Store, folders: list[Removal]) -> Iterator[Removal]:
    """Records of what trainings ended in, whose models are gone."""
    records = list(trained.training_results(store))  # first, since a training publishes its model before its record
    left = set(store.names("model")) - {folder.name for folder in folders if folder.kind == "model"}
    for made in records:
        if made.weights_digest not in left:
            yield Removal("record", made.record, 0, "the model that it names is gone")


def _claims(store: Store, needs: _Needs, before: float) -> Iterator[Removal]:
    for prefix in _OF_RUN:
        for entry in store.records(prefix):
            run = entry.key.removeprefix(prefix).partition("/")[0]
            if run not in needs.living | needs.running and entry.changed < before:
                yield Removal("record", entry.key, entry.size, "its run is over, and it is old")
    for entry in idle(store, needs.living | needs.running):
        if entry.changed < before:
            yield Removal("record", entry.key, entry.size, "nobody holds this lock, and it is old")
    for entry in (entry for prefix in _FORMER for entry in store.records(prefix)):
        if entry.changed < before:
            yield Removal("record", entry.key, entry.size, "an earlier wikigpt left it, and it is old")


def _old_versions(store: Store, keep_for: float, *, free: bool) -> tuple[list[OldVersion], list[str]]:
    """What a bucket with versioning on keeps of this store; where that may not be seen or freed, a note says so."""
    try:
        versions = store.old_versions(spare=keep_for)
        if free:
            store.free(versions)
        return versions, []
    except Failure as failure:
        return [], [f"Old versions of objects, if the bucket keeps any, are left to a lifecycle rule: {failure.what}."]


def _old_runs(runs: list[Run], needs: _Needs, before: float) -> Iterator[Removal]:
    for run in runs:
        ours, ended = run.data.tags.get(PIPELINE_RUN_TAG), run.info.end_time
        if ours and ended and run.info.run_id not in needs.runs and ours not in needs.living and ended < before * 1000:
            yield Removal("run", run.info.run_id, 0, f"no version came of run {ours}, and it is old")


def _remove(store: Store, client: MlflowClient, removals: list[Removal], needs: _Needs) -> None:
    for removal in removals:
        if removal.kind == "run":
            _remove_run(client, removal.name, needs)
        elif removal.kind == "record":
            store.release(removal.name)
        elif removal.kind == "blob":
            store.discard([removal.name])
        elif removal.kind in _FOLDERS:
            store.forget(removal.kind, removal.name)


def _remove_run(client: MlflowClient, run: str, needs: _Needs) -> None:
    outputs = client.get_run(run).outputs
    for output in outputs.model_outputs if outputs else []:
        if f"models:/{output.model_id}" not in needs.sources:
            client.delete_logged_model(output.model_id)
    client.delete_run(run)
