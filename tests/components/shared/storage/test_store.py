"""The behaviour of a store that does not depend on the storage, on a local folder."""

import json
import subprocess
import sys

import pytest

from components.shared.base.failure import ExitCode, Failure
from components.shared.storage.files import FileFact
from components.shared.storage.manifest import Manifest, write_manifest
from components.shared.storage.store import open_store


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "made", b"weights")


def make_folder(folder, weights):
    (folder / "tokenizer").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "tokenizer" / "vocab.json").write_text("{}")
    (folder / "empty").touch()
    write_manifest(folder, "model", {"steps": 3})
    return folder


def blobs(store):
    return sorted(entry.key for entry in store.objects.entries("blobs/"))


def test_a_published_folder_comes_back(store, folder, tmp_path):
    published = store.publish(folder, "model", "f00d")
    assert store.find("model", "f00d") == published
    assert store.fetch("model", "f00d", tmp_path / "back") == published
    for name in ("model.safetensors", "tokenizer/vocab.json", "empty", "manifest.json"):
        assert (tmp_path / "back" / name).read_bytes() == (folder / name).read_bytes()


def test_an_unpublished_folder_does_not_exist(store, tmp_path):
    assert store.find("model", "nothing") is None
    assert store.fetch("model", "nothing", tmp_path / "back") is None
    assert store.names("model") == []
    assert not (tmp_path / "back").exists()


def test_equal_bytes_are_stored_once(store, folder, tmp_path):
    store.publish(folder, "model", "one")
    before = blobs(store)
    store.publish(make_folder(tmp_path / "again", b"weights"), "model", "two")
    assert blobs(store) == before
    assert store.names("model") == ["one", "two"]


def test_the_first_manifest_under_a_name_is_kept_unless_it_is_replaced(store, folder, tmp_path):
    first = store.publish(folder, "model", "f00d")
    other = make_folder(tmp_path / "other", b"other weights")
    assert store.publish(other, "model", "f00d") == first
    replaced = store.publish(other, "model", "f00d", replace=True)
    assert replaced != first
    assert store.find("model", "f00d") == replaced


def test_a_folder_that_changed_after_its_manifest_is_not_published(store, folder):
    (folder / "model.safetensors").write_bytes(b"changed")
    with pytest.raises(Failure, match="differs"):
        store.publish(folder, "model", "f00d")
    assert store.names("model") == []
    assert blobs(store) == []


def test_a_file_that_changes_during_the_upload_gets_no_blob(store, tmp_path):
    (tmp_path / "file").write_bytes(b"now this")
    with pytest.raises(Failure, match="changed while it was uploaded"):
        store.objects.upload("blobs/aa/aa", tmp_path / "file", FileFact(size=8, sha256="aa"))
    assert blobs(store) == []


def test_names_are_found_by_kind_and_prefix(store, folder):
    for name in ("aa/00000002", "aa/00000010", "b"):
        store.publish(folder, "model", name)
    assert store.names("model", "aa/") == ["aa/00000002", "aa/00000010"]
    assert store.names("model") == ["aa/00000002", "aa/00000010", "b"]
    assert store.names("checkpoint") == []


@pytest.mark.parametrize("harm", [b"other bytes", b"weightz", b""], ids=["longer", "same size", "empty"])
def test_a_damaged_blob_is_refused_by_its_key_and_writes_no_file(store, folder, tmp_path, harm):
    manifest = store.publish(folder, "model", "f00d")
    key = f"blobs/{manifest.files['model.safetensors'].sha256[:2]}/{manifest.files['model.safetensors'].sha256}"
    (store.objects.root / key).write_bytes(harm)
    with pytest.raises(Failure, match=f"damaged.*{key}.*delete that object"):
        store.fetch("model", "f00d", tmp_path / "back")
    assert not (tmp_path / "back" / "model.safetensors").exists()
    assert not (tmp_path / "back" / "manifest.json").exists()


def test_a_blob_of_the_wrong_size_is_not_found_until_it_is_published_again(store, folder, tmp_path):
    manifest = store.publish(folder, "model", "f00d")
    digest = manifest.files["model.safetensors"].sha256
    (store.objects.root / "blobs" / digest[:2] / digest).write_bytes(b"half")
    assert store.find("model", "f00d") is None
    store.publish(folder, "model", "f00d")
    assert store.fetch("model", "f00d", tmp_path / "back") == manifest


def test_a_folder_with_a_missing_blob_does_not_exist(store, folder, tmp_path):
    manifest = store.publish(folder, "model", "f00d")
    digest = manifest.files["model.safetensors"].sha256
    store.objects.delete(f"blobs/{digest[:2]}/{digest}")
    assert store.find("model", "f00d") is None
    assert store.fetch("model", "f00d", tmp_path / "back") is None
    assert not (tmp_path / "back" / "manifest.json").exists()


def test_a_damaged_manifest_is_reported_in_one_sentence(store, folder):
    store.publish(folder, "model", "f00d")
    store.objects.put("manifests/model/f00d.json", b"<html>")
    with pytest.raises(Failure, match=r"damaged.*manifests/model/f00d\.json"):
        store.find("model", "f00d")


def test_fetching_again_replaces_files_that_differ(store, folder, tmp_path):
    manifest = store.publish(folder, "model", "f00d")
    store.fetch("model", "f00d", tmp_path / "back")
    (tmp_path / "back" / "model.safetensors").write_bytes(b"weightz")
    assert store.fetch("model", "f00d", tmp_path / "back") == manifest
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == b"weights"


def test_a_claim_has_one_owner_until_it_is_released(store):
    assert store.claim("versions/wikigpt/f00d", {"run": "a"}) == {"run": "a"}
    assert store.claim("versions/wikigpt/f00d", {"run": "b"}) == {"run": "a"}
    store.put_record("versions/wikigpt/f00d", {"run": "a", "version": "3"})
    assert store.claimed("versions/wikigpt/f00d") == {"run": "a", "version": "3"}
    assert store.claims("versions/") == ["versions/wikigpt/f00d"]
    store.release("versions/wikigpt/f00d")
    assert store.claimed("versions/wikigpt/f00d") is None
    assert store.claim("versions/wikigpt/f00d", {"run": "b"}) == {"run": "b"}


_CLAIM = """
import json, sys
from components.shared.storage.store import open_store
store = open_store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(json.dumps(store.claim("training/f00d", {"run": sys.argv[2]})))
"""


def test_eight_processes_agree_on_the_owner_of_a_claim(store):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", _CLAIM, store.uri]
    claimants = [subprocess.Popen([*command, str(number)], **pipes) for number in range(8)]
    assert all(claimant.stdout.readline() == "ready\n" for claimant in claimants)
    for claimant in claimants:
        claimant.stdin.write("go\n")
        claimant.stdin.flush()
    owners = {json.loads(claimant.communicate()[0])["run"] for claimant in claimants}
    assert owners == {store.claimed("training/f00d")["run"]}


def test_unused_blobs_are_those_without_a_manifest(store, folder, tmp_path):
    store.publish(folder, "model", "kept")
    store.publish(make_folder(tmp_path / "other", b"other weights"), "model", "gone")
    assert store.unused(spare=-1) == []
    store.forget("model", "gone")
    assert store.unused() == []
    (unused,) = store.unused(spare=-1)
    assert unused.size == len(b"other weights")
    store.discard([unused.key])
    assert store.find("model", "kept") is not None
    assert store.unused(spare=-1) == []


_PUBLISH = """
import os, sys
from pathlib import Path
from components.shared.storage.files import write_atomically
from components.shared.storage.store import open_store
store = open_store(sys.argv[1])
if sys.argv[3] == "killed":
    upload = store.objects.upload
    def stall(key, path, fact):
        upload(key, path, fact)
        os.write(1, b"uploaded\\n")  # in one piece, since several threads upload
        sys.stdin.readline()
    store.objects.upload = stall
store.publish(Path(sys.argv[2]), "model", "f00d")
"""


def test_sigkill_while_publishing_leaves_no_manifest_and_a_rerun_succeeds(store, folder, tmp_path):
    command = [sys.executable, "-c", _PUBLISH, store.uri, str(folder)]
    publisher = subprocess.Popen([*command, "killed"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert publisher.stdout.readline() == b"uploaded\n"
    publisher.kill()
    publisher.communicate()
    assert blobs(store) != []
    assert store.names("model") == []
    subprocess.run([*command, "whole"], check=True)
    assert store.fetch("model", "f00d", tmp_path / "back") is not None


@pytest.mark.parametrize("uri", ["ftp://host/x", "http://host/x", "s3:/bucket/x", "s3:bucket", "file:///tmp/x"])
def test_an_address_that_cannot_be_a_store_is_refused(uri):
    with pytest.raises(Failure, match="cannot be kept") as caught:
        open_store(uri)
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_store_below_a_file_is_reported_in_one_sentence(tmp_path, folder):
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match=r"Could not (write|read)"):
        open_store(str(tmp_path / "file" / "store")).publish(folder, "model", "f00d")


def test_a_local_store_does_not_import_boto3(tmp_path):
    code = (
        "import sys; from components.shared.storage.store import open_store; import components.shared.runtime.step;"
        f" open_store({str(tmp_path)!r}).names('model'); print('boto3' in sys.modules, 'botocore' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"


def test_the_store_does_not_change_a_manifest(store, folder):
    store.publish(folder, "model", "a/b")
    data = store.objects.get("manifests/model/a/b.json")
    assert Manifest.from_json(data) == store.find("model", "a/b")
    assert store.address("model", "a/b") == f"{store.uri}/manifests/model/a/b.json"


def test_a_folder_with_a_missing_blob_is_replaced_by_one_with_other_bytes(store, folder, tmp_path):
    store.publish(folder, "model", "f00d")
    digest = store.find("model", "f00d").files["model.safetensors"].sha256
    store.objects.delete(f"blobs/{digest[:2]}/{digest}")
    again = store.publish(make_folder(tmp_path / "again", b"other weights"), "model", "f00d")
    assert store.fetch("model", "f00d", tmp_path / "back") == again
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == b"other weights"


def test_removing_a_folder_deletes_its_blobs(store, folder):
    store.publish(folder, "model", "step-1")
    assert blobs(store)
    store.remove("model", "step-1")
    assert (store.names("model"), blobs(store)) == ([], [])


def test_removing_a_folder_with_a_damaged_manifest_keeps_its_blobs(store, folder):
    store.publish(folder, "model", "step-1")
    before = blobs(store)
    store.objects.put("manifests/model/step-1.json", b"{")
    store.remove("model", "step-1")
    assert store.names("model") == []
    assert blobs(store) == before
