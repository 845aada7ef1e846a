"""Garbage collection: removes checkpoints, folders, blobs and MLflow runs that no version and no live run needs.

It never removes a version, nor what a version names in the store: the model and its evaluations, which are stored under
the digest of the weights, the tokens, and what an earlier wikigpt stored under its fingerprint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
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
from pipelines.planned_changes import Refused

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Kind = Literal[
    "checkpoint",
    "model",
    "evaluation",
    "tokens",
    "record",
    "blob",
    "object version",
    "MLflow run",
    "step folder",
    "served version",
]
_FOLDERS: tuple[Kind, ...] = ("checkpoint", "model", "evaluation", "tokens")
_OF_RUN = ("heartbeats/", "steps/", "logs/")
# Records that an earlier wikigpt used as locks.
_FORMER = ("training/", "versions/")
_OF_VERSIONS = (registry.WEIGHTS_DIGEST, registry.REUSE_KEY, registry.TOKENS_KEY, registry.FINGERPRINT)
_OF_RUNS = (registry.REUSE_KEY, registry.TOKENS_KEY, registry.FINGERPRINT)
DAY = 86400.0
KEEP_FOR = 7 * DAY


@dataclass(frozen=True)
class Removal:
    """The planned removal of one thing.

    Attributes:
        kind: the kind of thing.
        name: its name in the store (the key of a blob or an object version), the id of an MLflow run, or a path.
        size: the bytes of the object itself. The bytes of a folder of the store belong to its blobs.
        reason: a phrase that says why nothing needs it.
        remove: a function that removes it.
    """

    kind: Kind
    name: str
    size: int
    reason: str
    remove: Callable[[], object] = field(repr=False, compare=False)

    @property
    def description(self) -> str:
        return f"remove {self.kind} {self.name} ({self.size:,} bytes): {self.reason}"

    def apply(self) -> None:
        self.remove()


@dataclass(frozen=True)
class Garbage:
    """What gc removes.

    Attributes:
        removals: the changes, in the order in which they are applied.
        notes: sentences that say which unneeded things are kept, and why.
    """

    removals: tuple[Removal, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _InUse:
    """What must be kept.

    Attributes:
        names: the names in the store to which versions refer.
        runs: the MLflow runs of versions.
        sources: the addresses of the logged models from which versions were created.
        busy: the model keys, tokens keys and weights digests that live runs work on.
        live: the pipeline runs that are alive.
        running: the pipeline runs with the status RUNNING in MLflow.
    """

    names: frozenset[str]
    runs: frozenset[str]
    sources: frozenset[str]
    busy: frozenset[str]
    live: frozenset[str]
    running: frozenset[str]


def plan_gc(store: Store, client: MlflowClient, *, keep_for: float = KEEP_FOR) -> Garbage:
    """Lists what gc removes, and removes nothing.

    Args:
        store: its checkpoints, folders, records and blobs are examined.
        client: a client of the registry that decides what is needed. The runs of the store must have registered in it.
        keep_for: the seconds for which unneeded things are kept.

    Raises:
        Failure: the registry knows none of the runs that the store knows, so it belongs to another store.
    """
    experiments = [e.experiment_id for e in client.search_experiments()]
    runs = list(_runs(client, experiments))
    heard = {name.removeprefix("heartbeats/") for name in store.claims("heartbeats/")}
    _refuse_another_registry(store, client, heard, runs)
    in_use = _in_use(store, client, heard, runs)
    before = time.time() - keep_for
    versions, notes = _object_versions(store, keep_for)
    folders = list(_folders(store, in_use, before))
    removals = [
        # In a bucket with versioning, removing an object creates a version of it, so the listed versions come first.
        *versions,
        *folders,
        *_trained_records(store, folders),
        *_run_records(store, in_use, before),
        *_old_runs(client, runs, in_use, before),
    ]
    if in_use.live:
        notes.append(f"Blobs are kept while a run is alive: {', '.join(sorted(in_use.live))}.")
    else:
        unused = store.unused(spare=0, without=[(folder.kind, folder.name) for folder in folders])
        yesterday = time.time() - DAY  # a folder that is being published has blobs and no manifest yet
        young = [blob for blob in unused if blob.changed > yesterday]
        removals += [
            Removal("blob", blob.key, blob.size, "no folder names it", partial(store.discard, [blob.key]))
            for blob in unused
            if blob.changed <= yesterday
        ]
        if young:
            size = sum(blob.size for blob in young) / (1 << 20)
            notes.append(f"{size:.1f} MiB of blobs that no folder will name are kept until they are a day old.")
    return Garbage(tuple(removals), tuple(notes))


def versioning_note(store: Store) -> tuple[str, ...]:
    """Says, after the removals, whether the bucket kept what was removed as object versions."""
    if store.keeps_versions:
        return ("The bucket keeps what was removed as object versions, which these credentials may not delete.",)
    return ()


def _refuse_another_registry(store: Store, client: MlflowClient, heard: set[str], runs: list[Run]) -> None:
    """To another registry, everything in the store would look unused."""
    if heard and heard.isdisjoint(run.data.tags.get(PIPELINE_RUN_TAG, "") for run in runs):
        raise Failure(
            f"The registry knows none of the {len(heard)} runs of the store and cannot say what they need",
            where=f"registry {client.tracking_uri}, store {store.uri}",
            remedy="give the two that belong together, by MLFLOW_TRACKING_URI and --store",
            exit_code=ExitCode.USAGE,
        )


def _in_use(store: Store, client: MlflowClient, heard: set[str], runs: list[Run]) -> _InUse:
    models = client.search_registered_models(max_results=1000)
    versions = [version for model in models for version in registry.versions(client, model.name)]
    live = frozenset(run for run in heard if alive(heartbeat_of(store, run)))
    busy = {reuse_key for reuse_key, run in trainings(store) if run in live}
    ours = (r.data.tags for r in runs if r.data.tags.get(PIPELINE_RUN_TAG) in live)
    busy |= {tags[tag] for tags in ours for tag in _OF_RUNS if tag in tags}
    busy |= {result.weights_digest for result in trained.training_results(store) if result.model_key in busy}
    return _InUse(
        names=frozenset(v.tags[tag] for v in versions for tag in _OF_VERSIONS if tag in v.tags),
        runs=frozenset(run for v in versions for run in (v.run_id, v.tags.get(registry.EVALUATION_RUN)) if run),
        sources=frozenset(v.source or "" for v in versions),
        busy=frozenset(busy),
        live=live,
        running=frozenset(r.data.tags.get(PIPELINE_RUN_TAG, "") for r in runs if r.info.status == "RUNNING"),
    )


def _runs(client: MlflowClient, experiments: list[str]) -> Iterator[Run]:
    token = None
    while True:
        page = client.search_runs(experiments, page_token=token)
        yield from page
        if not (token := page.token):
            return


def _folders(store: Store, in_use: _InUse, before: float) -> Iterator[Removal]:
    over = in_use.names | set(store.names("model")) | {result.model_key for result in trained.training_results(store)}
    for kind in _FOLDERS:
        for entry in store.folders(kind):
            key = entry.key.partition("/")[0]
            if key in in_use.busy:
                continue
            if kind == "checkpoint" and key in over:
                reason = "its training is over"
            elif key not in in_use.names and entry.changed < before:
                reason = "no version names it, and it is old"
            else:
                continue
            yield Removal(kind, entry.key, entry.size, reason, partial(store.forget, kind, entry.key))


def _trained_records(store: Store, folders: list[Removal]) -> Iterator[Removal]:
    """Records of finished trainings whose models are removed."""
    records = list(trained.training_results(store))  # first, since a training publishes its model before its record
    left = set(store.names("model")) - {folder.name for folder in folders if folder.kind == "model"}
    for made in records:
        if made.weights_digest not in left:
            yield _record(store, made.record, 0, "the model that it names is removed")


def _run_records(store: Store, in_use: _InUse, before: float) -> Iterator[Removal]:
    for prefix in _OF_RUN:
        for entry in store.records(prefix):
            run = entry.key.removeprefix(prefix).partition("/")[0]
            if run not in in_use.live | in_use.running and entry.changed < before:
                yield _record(store, entry.key, entry.size, "its run is over, and it is old")
    for entry in idle(store, in_use.live | in_use.running):
        if entry.changed < before:
            yield _record(store, entry.key, entry.size, "no process holds this lock, and it is old")
    for entry in (entry for prefix in _FORMER for entry in store.records(prefix)):
        if entry.changed < before:
            yield _record(store, entry.key, entry.size, "an earlier wikigpt wrote it, and it is old")


def _record(store: Store, name: str, size: int, reason: str) -> Removal:
    return Removal("record", name, size, reason, partial(store.release, name))


class _Versions:
    """Deletes object versions in the order of their list, and none after one that these credentials may not delete.

    In another order, deleting the mark of a deletion would bring back the version below it.
    """

    def __init__(self, store: Store):
        self.store = store
        self.refused: Refused | None = None

    def delete(self, version: OldVersion) -> None:
        if self.refused is None:
            try:
                self.store.free([version])
            except Failure as failure:
                self.refused = Refused(_LIFECYCLE.format(failure.what))
        if self.refused is not None:
            raise self.refused


_LIFECYCLE = "Object versions, if the bucket keeps any, are left to a lifecycle rule: {}."


def _object_versions(store: Store, keep_for: float) -> tuple[list[Removal], list[str]]:
    """What a bucket with versioning keeps of this store. A note says so where these credentials may not list it."""
    try:
        found = store.old_versions(spare=keep_for)
    except Failure as failure:
        return [], [_LIFECYCLE.format(failure.what)]
    versions = _Versions(store)
    reason = "it was replaced or deleted, and is old"
    return [Removal("object version", old.key, old.size, reason, partial(versions.delete, old)) for old in found], []


def _old_runs(client: MlflowClient, runs: list[Run], in_use: _InUse, before: float) -> Iterator[Removal]:
    for run in runs:
        ours, ended, run_id = run.data.tags.get(PIPELINE_RUN_TAG), run.info.end_time, run.info.run_id
        if ours and ended and run_id not in in_use.runs and ours not in in_use.live and ended < before * 1000:
            reason = f"no version came of run {ours}, and it is old"
            yield Removal("MLflow run", run_id, 0, reason, partial(_remove_run, client, run_id, in_use.sources))


def _remove_run(client: MlflowClient, run: str, sources: frozenset[str]) -> None:
    outputs = client.get_run(run).outputs
    for output in outputs.model_outputs if outputs else []:
        if f"models:/{output.model_id}" not in sources:
            client.delete_logged_model(output.model_id)
    client.delete_run(run)
