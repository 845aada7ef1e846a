"""The noncurrent versions that the store leaves in a bucket with versioning, and those that it can delete."""

import json
import time
from uuid import uuid4

import pytest

from components.shared.base.failure import ExitCode, Failure
from components.shared.storage.manifest import write_manifest
from components.shared.storage.s3 import S3Objects
from components.shared.storage.store import Store
from tests.s3_servers import make_bucket

BUCKET = "wikigpt-versioned"


@pytest.fixture(params=["_emulator", pytest.param("_server", marks=pytest.mark.slow)])
def uri(request, monkeypatch):
    env = request.getfixturevalue(request.param)
    make_bucket(BUCKET, env, versioned=True)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid4().hex[:12]}"


@pytest.fixture
def store(uri):
    """Opened without `open_store`, which refuses Ceph 16: with versioning, it ignores If-None-Match."""
    return Store(S3Objects(uri))


def versions(store):
    """Every version and every delete marker below the prefix, by key."""
    client, bucket, prefix = store.objects.client, store.objects.bucket, store.objects.prefix
    answer = client.list_object_versions(Bucket=bucket, Prefix=prefix)
    kept = [*answer.get("Versions", []), *answer.get("DeleteMarkers", [])]
    return sorted(found["Key"].removeprefix(prefix) for found in kept)


def deny(store, action):
    """Replaces a policy that the emulator does not enforce by a fault: the operation answers 403."""
    from botocore.exceptions import ClientError

    def refuse(params, model, **_):
        if model.name == action and (action != "DeleteObject" or "versionId" in params["query_string"]):
            raise ClientError({"Error": {"Code": "AccessDenied"}}, model.name)

    store.objects.client.meta.events.register("before-call.s3", refuse)


def test_a_record_that_is_written_often_leaves_one_version(store):
    for beat in range(5):
        store.put_record("heartbeats/run", {"beat": beat})
    assert versions(store) == ["claims/heartbeats/run.json"]
    assert store.claimed("heartbeats/run") == {"beat": 4}
    assert not store.keeps_versions


def test_the_next_process_deletes_the_last_version_of_the_previous_one(store, uri):
    store.put_record("heartbeats/run", {"beat": 1})
    other = Store(S3Objects(uri))
    for beat in (2, 3):
        other.put_record("heartbeats/run", {"beat": beat})
    assert versions(store) == ["claims/heartbeats/run.json"]
    assert store.claimed("heartbeats/run") == {"beat": 3}


def test_a_record_takes_one_request_without_versioning(s3_emulator, monkeypatch):
    address, env = s3_emulator
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    store, made = Store(S3Objects(address)), []
    store.put_record("heartbeats/run", {"beat": 0})
    store.objects.client.meta.events.register("before-call.s3", lambda model, **_: made.append(model.name))
    store.put_record("heartbeats/run", {"beat": 1})
    store.release("heartbeats/run")
    assert made == ["PutObject", "DeleteObject"]


def test_deleted_objects_leave_no_version(store, tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    write_manifest(folder, "checkpoint")
    store.publish(folder, "checkpoint", "f00d/1", replace=True)
    store.publish(folder, "checkpoint", "f00d/1", replace=True)
    store.put_record("x", {})
    store.release("x")
    store.remove("checkpoint", "f00d/1")
    assert versions(store) == []


def test_deleting_during_another_write_does_not_restore_an_older_version(store):
    """Another process writes the record between the delete marker and the deletion of the old versions."""
    store.put_record("x", {"by": "us"})
    old_versions = store.objects.old_versions

    def written_meanwhile(prefix):
        found = list(old_versions(prefix))
        store.objects.put("claims/x.json", json.dumps({"by": "another"}).encode())
        return iter(found)

    store.objects.old_versions = written_meanwhile
    store.release("x")
    assert store.claimed("x") == {"by": "another"}


@pytest.mark.parametrize("action", ["DeleteObject", "ListObjectVersions"])
def test_records_are_written_and_removed_without_the_permission_to_delete_versions(store, action):
    deny(store, action)
    for beat in range(3):
        store.put_record("x", {"beat": beat})
    assert store.claimed("x") == {"beat": 2}
    store.release("x")
    assert store.claimed("x") is None
    assert store.keeps_versions


def test_old_versions_are_found_by_age_and_freed(store):
    put, delete = store.objects.put, store.objects.client.delete_object
    for data in (b"{}", b"{ }", b"{  }"):
        put("claims/replaced.json", data)
    for data in (b"1", b"22"):
        put("blobs/aa/deleted", data)
    delete(Bucket=BUCKET, Key=f"{store.objects.prefix}blobs/aa/deleted")
    put("not/of/the/store", b"a")
    put("not/of/the/store", b"b")
    assert store.old_versions(spare=60) == []
    old = store.old_versions(spare=-60)
    assert sorted((version.key, version.size) for version in old) == [
        ("blobs/aa/deleted", 0),
        ("blobs/aa/deleted", 1),
        ("blobs/aa/deleted", 2),
        ("claims/replaced.json", 2),
        ("claims/replaced.json", 3),
    ]
    assert all(abs(version.since - time.time()) < 60 for version in old)
    for number, version in enumerate(old, start=1):  # whatever dies in between uncovers nothing
        store.free([version])
        assert store.objects.get("blobs/aa/deleted") is None, f"after {number}"
        assert store.claimed("replaced") == {}
    assert versions(store) == ["claims/replaced.json", "not/of/the/store", "not/of/the/store"]


@pytest.mark.slow
def test_a_version_became_old_when_it_was_replaced_not_when_it_was_written(store):
    store.objects.put("claims/x.json", b"{}")
    time.sleep(2.1)
    store.objects.put("claims/x.json", b"{ }")
    (current,) = store.records("x")
    (old,) = store.old_versions(spare=-60)
    assert abs(old.since - current.changed) < 1.1


def test_a_refused_listing_of_versions_is_reported_in_one_sentence(store):
    deny(store, "ListObjectVersions")
    with pytest.raises(Failure, match="cannot be read with these credentials: AccessDenied") as caught:
        store.old_versions()
    assert caught.value.exit_code is ExitCode.UNAUTHORISED
