"""gc removes everything that is not protected by a version, a live run or its age."""

import os
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from mlflow import MlflowClient

from components.shared.base.failure import Failure
from components.shared.reuse.trained import publish_model, training_results
from components.shared.reuse.training_lock import training_lock
from components.shared.runtime.liveness import end_heartbeat, heartbeat
from components.shared.storage.manifest import write_manifest
from components.shared.storage.store import Store, open_store
from pipelines.planned_changes import Execution, apply_changes, descriptions
from pipelines.registry.gc import DAY, Garbage, Removal, plan_gc, versioning_note
from tests.s3_servers import make_bucket

VERSION, OTHER, UNFINISHED = "1" * 32, "8" * 32, "9" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "gc-store"))
    for kind, names in {
        "checkpoint": [f"{VERSION}/00000010", f"{OTHER}/00000010", f"{UNFINISHED}/00000010"],
        "model": [VERSION, OTHER],
        "tokens": [VERSION, UNFINISHED],
        "evaluation": [f"{VERSION}/e", f"{OTHER}/e"],
        "corpus": ["d" * 32],
    }.items():
        for name in names:
            publish(store, tmp_path / kind / name, kind, name)
    return store


def publish(store: Store, folder: Path, kind: str, name: str) -> None:
    folder.mkdir(parents=True)
    (folder / "bytes").write_text(f"{kind} {name}")
    write_manifest(folder, kind)
    store.publish(folder, kind, name)


def age(store: Store, days: float) -> None:
    """Gives everything in a local store this age."""
    then = time.time() - days * DAY
    for path in Path(store.uri).rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def gc(store: Store, client: MlflowClient, **options: float) -> tuple[Garbage, Execution[Removal]]:
    """The plan of gc, and the changes that it then made."""
    garbage = plan_gc(store, client, **options)
    return garbage, apply_changes(garbage.removals)


def listed(garbage: Garbage) -> set[tuple[str, str]]:
    return {
        (r.kind, r.name[:1] if r.kind in ("checkpoint", "model", "tokens", "evaluation") else r.name)
        for r in garbage.removals
    }


def folders(store: Store) -> set[tuple[str, str]]:
    kinds = ("checkpoint", "model", "tokens", "evaluation", "corpus")
    return {(kind, name[:1]) for kind in kinds for name in store.names(kind)}


def test_of_young_things_only_checkpoints_of_finished_trainings_go(filled: MlflowClient, store: Store) -> None:
    garbage = plan_gc(store, filled)
    assert listed(garbage) == {("checkpoint", "1"), ("checkpoint", "8")}
    assert garbage.notes == ("0.0 MiB of blobs that no folder will name are kept until they are a day old.",)


def test_planning_removes_nothing_and_executing_removes_what_was_planned(filled: MlflowClient, store: Store) -> None:
    age(store, days=30)
    before = folders(store)
    planned = plan_gc(store, filled)
    assert folders(store) == before
    blobs = {r.name for r in planned.removals if r.kind == "blob"}
    assert len(blobs) == 6
    garbage, execution = gc(store, filled)
    assert garbage == planned
    assert descriptions(execution.applied) == descriptions(planned.removals)
    assert folders(store) == {("model", "1"), ("tokens", "1"), ("evaluation", "1"), ("corpus", "d")}
    assert store.find("model", VERSION)
    assert not any((Path(store.uri) / blob).exists() for blob in blobs)
    assert plan_gc(store, filled).removals == ()


def test_what_a_living_run_works_on_stays(filled: MlflowClient, store: Store) -> None:
    experiment = filled.get_experiment_by_name("wikigpt").experiment_id
    tags = {"wikigpt.pipeline_run": "run-3", "wikigpt.reuse_key": UNFINISHED}
    filled.create_run(experiment, tags=tags)
    training_lock(store, OTHER).acquire("run-4")
    age(store, days=30)
    with heartbeat(store, "run-3"), heartbeat(store, "run-4"):
        garbage, _ = gc(store, filled)
    assert listed(garbage) == {("checkpoint", "1")}
    assert garbage.notes == ("Blobs are kept while a run is alive: run-3, run-4.",)


def test_what_versions_name_by_their_weights_stays_and_other_models_go_with_their_records(
    filled: MlflowClient, store: Store, tmp_path: Path
) -> None:
    version = filled.get_model_version("wikigpt-sample", "1").tags
    weights, tokens = version["wikigpt.weights_digest"], version["wikigpt.tokens_key"]
    for kind, name in {("model", weights), ("evaluation", f"{weights}/k"), ("tokens", tokens)}:
        publish(store, tmp_path / "named" / kind, kind, name)
    lost, worked_on = (keep(store, tmp_path / f"{key}-model", key) for key in ("lost", "worked on"))
    experiment = filled.get_experiment_by_name("wikigpt").experiment_id
    filled.create_run(experiment, tags={"wikigpt.pipeline_run": "run-3", "wikigpt.reuse_key": "worked on"})
    age(store, days=30)
    with heartbeat(store, "run-3"):
        gc(store, filled)
    assert {weights, worked_on} <= set(store.names("model"))
    assert lost not in store.names("model")
    assert {f"{weights}/k"} <= set(store.names("evaluation")) and tokens in store.names("tokens")
    assert [made.model_key for made in training_results(store)] == ["worked on"]


def keep(store: Store, folder: Path, reuse_key: str) -> str:
    folder.mkdir()
    (folder / "model.safetensors").write_text(reuse_key)
    return publish_model(store, folder, write_manifest(folder, "model", {"numerics": {"device": "cpu"}}), reuse_key)


def test_a_checkpoint_of_an_ended_training_is_removed_with_or_without_a_version(
    filled: MlflowClient, store: Store, tmp_path: Path
) -> None:
    keep(store, tmp_path / "ended", UNFINISHED)
    assert ("checkpoint", "9") in listed(plan_gc(store, filled))


def test_the_registry_of_another_store_is_refused(client: MlflowClient, store: Store) -> None:
    """It has no versions of this store, so everything would look unused."""
    end_heartbeat(store, "run-1")
    age(store, days=30)
    before = folders(store)
    with pytest.raises(Failure, match="The registry knows none of the 1 runs of the store"):
        gc(store, client)
    assert folders(store) == before


def test_old_runs_without_a_version_go_with_what_they_left(filled: MlflowClient, store: Store) -> None:
    experiment = filled.get_experiment_by_name("wikigpt").experiment_id
    month_ago = int((time.time() - 30 * DAY) * 1000)

    def ended(run: str, when: int) -> str:
        end_heartbeat(store, run)
        made = filled.create_run(experiment, start_time=when, tags={"wikigpt.pipeline_run": run}).info.run_id
        filled.set_terminated(made, "FAILED", end_time=when)
        return made

    old, young = ended("run-7", month_ago), ended("run-8", int(time.time() * 1000))
    foreign = filled.create_run(experiment, start_time=month_ago).info.run_id
    filled.set_terminated(foreign, "FAILED", end_time=month_ago)
    of_versions = {v.run_id for v in filled.search_model_versions("name='wikigpt-sample'")}
    for run in of_versions:
        filled.set_terminated(run, "FINISHED", end_time=month_ago)
    age(store, days=30)
    end_heartbeat(store, "run-8")

    garbage, _ = gc(store, filled)

    assert {r.name for r in garbage.removals if r.kind == "MLflow run"} == {old}
    assert {r.name for r in garbage.removals if r.kind == "record"} == {"heartbeats/run-7"}
    left = {run.info.run_id for run in filled.search_runs([experiment])}
    assert left == {young, foreign} | of_versions


def test_old_locks_of_no_live_run_are_removed(filled: MlflowClient, store: Store) -> None:
    experiment = filled.get_experiment_by_name("wikigpt").experiment_id
    filled.create_run(experiment, tags={"wikigpt.pipeline_run": "run-3"})
    with training_lock(store, VERSION).held("run-1"):
        pass
    training_lock(store, OTHER).acquire("a run that died")
    training_lock(store, UNFINISHED).acquire("run-3")
    store.claim(f"training/{OTHER}/000002", {"run": "of an earlier wikigpt"})
    store.claim(f"versions/wikigpt/{OTHER}", {"run": "of an earlier wikigpt", "version": "1"})
    with heartbeat(store, "run-3"):
        assert "record" not in {kind for kind, _ in listed(plan_gc(store, filled))}
        age(store, days=30)
        heard = store.claimed("heartbeats/run-3")
        store.put_record("heartbeats/run-3", heard)  # type: ignore[arg-type]
        gc(store, filled)
    assert [name.partition("/0")[0] for name in store.claims() if not name.startswith("heartbeats/")] == [
        f"locks/training/{UNFINISHED}"
    ]


@pytest.fixture
def versioned(_emulator: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store in a bucket that keeps versions."""
    make_bucket("wikigpt-gc", _emulator, versioned=True)
    for name, value in _emulator.items():
        monkeypatch.setenv(name, value)
    return open_store(f"s3://wikigpt-gc/{uuid4().hex[:12]}")


def kept(store: Store) -> list[str]:
    """The keys of all versions, and of all delete markers."""
    objects: Any = store.objects
    answer = objects.client.list_object_versions(Bucket=objects.bucket, Prefix=objects.prefix)
    found = [*answer.get("Versions", []), *answer.get("DeleteMarkers", [])]
    return sorted(version["Key"].removeprefix(objects.prefix) for version in found)


def test_space_is_freed_in_a_bucket_that_keeps_versions(filled: MlflowClient, versioned: Store, tmp_path: Path) -> None:
    publish(versioned, tmp_path / "gone", "tokens", UNFINISHED)
    key = f"manifests/tokens/{UNFINISHED}.json"
    data = versioned.objects.get(key)
    versioned.objects.put(key, data or b"")  # by a user who may not delete versions
    versioned.objects.put("claims/heartbeats/run-7.json", b"{}")
    versioned.objects.client.delete_object(  # type: ignore[attr-defined]
        Bucket="wikigpt-gc",
        Key=f"{versioned.objects.prefix}claims/heartbeats/run-7.json",  # type: ignore[attr-defined]
    )
    blobs = [entry.key for entry in versioned.objects.entries("blobs/")]
    assert len(kept(versioned)) == len(blobs) + 4 + 1, "two of the manifest, two of the heartbeat, the probe"
    garbage, _ = gc(versioned, filled, keep_for=-60)
    assert sorted(r.name for r in garbage.removals if r.kind == "object version") == [
        "claims/heartbeats/run-7.json",
        "claims/heartbeats/run-7.json",
        key,
    ]
    assert kept(versioned) == sorted([*blobs, "conditional-write"]), "blobs go when they are a day old"
    assert plan_gc(versioned, filled, keep_for=-60).removals == ()


def test_versions_that_may_not_be_deleted_are_said_to_stay(filled: MlflowClient, versioned: Store) -> None:
    from botocore.exceptions import ClientError

    def refuse(params: dict[str, Any], model: Any, **_: Any) -> None:
        if model.name == "DeleteObject" and "versionId" in params["query_string"]:
            raise ClientError({"Error": {"Code": "AccessDenied"}}, model.name)

    versioned.objects.put("claims/training/x.json", b"{}")
    versioned.objects.put("claims/training/x.json", b"{ }")
    versioned.objects.client.meta.events.register("before-call.s3", refuse)  # type: ignore[attr-defined]
    garbage, execution = gc(versioned, filled, keep_for=-60)
    assert [removal.kind for removal in garbage.removals] == ["object version", "record"]
    assert execution.applied == (garbage.removals[1],)
    assert [note.partition(":")[0] for note in (*execution.refused, *versioning_note(versioned))] == [
        "Object versions, if the bucket keeps any, are left to a lifecycle rule",
        "The bucket keeps what was removed as object versions, which these credentials may not delete.",
    ]
