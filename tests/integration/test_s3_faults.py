"""The store on S3 with faults, on a real server if there is one, and on the emulator."""

import json
import os
import subprocess
import sys
import time

import pytest

from components.shared.base.failure import ExitCode, Failure
from components.shared.storage.manifest import MANIFEST, write_manifest
from components.shared.storage.s3_transfer import PART_SIZE
from components.shared.storage.store import open_store
from tests.s3_servers import BUSY, CUT_ANSWER, CUT_REQUEST, GARBLE, PASS, proxy

pytestmark = pytest.mark.slow


@pytest.fixture(params=["s3_emulator", "s3_server"])
def served(request, monkeypatch):
    """A store address on each kind of server, and the variables that lead there, which are set."""
    uri, env = request.getfixturevalue(request.param)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return uri, env


@pytest.fixture
def real(s3_server, monkeypatch):
    uri, env = s3_server
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return uri, env


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "made", 3 * PART_SIZE + 5)


def make_folder(folder, size):
    folder.mkdir()
    with open(folder / "model.safetensors", "wb") as stream:
        while size:
            size -= stream.write(os.urandom(min(size, 1 << 20)))
    (folder / "config.json").write_text("{}")
    write_manifest(folder, "model", {})
    return folder


def key_of(manifest, name):
    digest = manifest.files[name].sha256
    return f"blobs/{digest[:2]}/{digest}"


@pytest.mark.parametrize("fault", [BUSY, CUT_REQUEST, CUT_ANSWER])
def test_every_third_request_fails_and_the_folder_comes_back(served, folder, tmp_path, monkeypatch, fault):
    uri, env = served
    direct = open_store(uri)

    def plan(request):
        return fault if request.number % 3 == 1 and request.method in ("PUT", "GET") else PASS

    with proxy(env["AWS_ENDPOINT_URL_S3"], plan) as faulty:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", faulty)
        store = open_store(uri)
        manifest = store.publish(folder, "model", "f00d")
        assert store.fetch("model", "f00d", tmp_path / "back") == manifest
    assert sorted(entry.key for entry in direct.objects.entries("blobs/")) == sorted(
        key_of(manifest, name) for name in manifest.files
    ), "one object each, whatever was repeated"


def test_a_burst_of_503_in_the_middle_of_a_multipart_upload_is_survived(served, folder, monkeypatch):
    uri, env = served
    store = open_store(uri)
    burst = iter(range(4))

    def plan(request):
        in_the_middle = request.method == "PUT" and "partNumber=3" in request.path
        return BUSY if in_the_middle and next(burst, None) is not None else PASS

    with proxy(env["AWS_ENDPOINT_URL_S3"], plan) as faulty:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", faulty)
        manifest = open_store(uri).publish(folder, "model", "f00d")
    assert next(burst, None) is None
    assert store.find("model", "f00d") == manifest


def test_a_server_that_stays_busy_is_given_up_in_bounded_time(served, folder, monkeypatch):
    uri, env = served
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    asked = []

    def plan(request):
        asked.append(request)
        return BUSY

    with proxy(env["AWS_ENDPOINT_URL_S3"], plan) as faulty:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", faulty)
        with pytest.raises(Failure, match=f"overloaded or down: it answered SlowDown.*{faulty}") as caught:
            open_store(uri)
    assert caught.value.exit_code is ExitCode.UNREACHABLE
    assert len(asked) == 3


@pytest.mark.parametrize("checksums", ["when_supported", "when_required"])
def test_a_piece_that_is_garbled_on_the_way_is_sent_again(real, folder, tmp_path, monkeypatch, checksums):
    uri, env = real
    monkeypatch.setenv("WIKIGPT_S3_CHECKSUMS", checksums)
    garbled = []

    def plan(request):
        if request.method == "PUT" and "partNumber=2" in request.path and not garbled:
            garbled.append(request)
            return GARBLE
        return PASS

    with proxy(env["AWS_ENDPOINT_URL_S3"], plan) as faulty:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", faulty)
        store = open_store(uri)
        manifest = store.publish(folder, "model", "f00d")
        assert len(garbled) == 1
        assert store.fetch("model", "f00d", tmp_path / "back") == manifest


@pytest.mark.parametrize(
    ("wrong", "code"),
    [("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId"), ("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch")],
)
def test_wrong_credentials_are_tried_once_and_never_shown(real, monkeypatch, wrong, code):
    uri, env = real
    monkeypatch.setenv(wrong, "not-what-the-server-knows")
    asked = []

    def plan(request):
        asked.append(request)
        return PASS

    with proxy(env["AWS_ENDPOINT_URL_S3"], plan) as watched:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", watched)
        with pytest.raises(Failure, match=f"refused the credentials: {code}.*the Secret that contains them") as caught:
            open_store(uri)
    assert caught.value.exit_code is ExitCode.UNAUTHORISED
    assert len(asked) == 1
    for secret in ("not-what-the-server-knows", env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in str(caught.value)


def test_a_bucket_that_may_not_be_written(real, monkeypatch):
    _, env = real
    import boto3

    owner = boto3.Session(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], region_name=env["AWS_REGION"])
    client = owner.client("s3", endpoint_url=env["AWS_ENDPOINT_URL_S3"])
    client.create_bucket(Bucket="wikigpt-readonly")
    denied = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutObject",
        "Resource": "arn:aws:s3:::wikigpt-readonly/*",
    }
    client.put_bucket_policy(
        Bucket="wikigpt-readonly", Policy=json.dumps({"Version": "2012-10-17", "Statement": [denied]})
    )
    with pytest.raises(Failure, match="bucket cannot be written with these credentials: AccessDenied") as caught:
        open_store("s3://wikigpt-readonly/x")
    assert caught.value.exit_code is ExitCode.UNAUTHORISED


def test_a_corrupted_object_is_refused_by_its_key(served, folder, tmp_path):
    store = open_store(served[0])
    manifest = store.publish(folder, "model", "f00d")
    key = key_of(manifest, "model.safetensors")
    store.objects.put(key, os.urandom(manifest.files["model.safetensors"].size))
    with pytest.raises(Failure, match=f"damaged.*{key}"):
        store.fetch("model", "f00d", tmp_path / "back")
    assert not (tmp_path / "back" / MANIFEST).exists()


_WRITE = """
import json, sys
from pathlib import Path
from components.shared.storage.store import open_store
store = open_store(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
manifest = store.publish(Path(sys.argv[2]), "model", "f00d")
print(json.dumps([manifest.digest, store.claim("f00d", {"run": sys.argv[2]})["run"]]))
"""


def test_eight_writers_of_one_key_agree_on_one_winner(served, tmp_path):
    store = open_store(served[0])
    folders = [make_folder(tmp_path / str(number), 1000) for number in range(8)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    writers = [subprocess.Popen([sys.executable, "-c", _WRITE, store.uri, str(folder)], **pipes) for folder in folders]
    assert all(writer.stdout.readline() == "ready\n" for writer in writers)
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    answers = [json.loads(writer.communicate()[0]) for writer in writers]
    assert {digest for digest, _ in answers} == {store.find("model", "f00d").digest}
    assert {owner for _, owner in answers} == {store.claimed("f00d")["run"]}


_MOVE = """
import resource, sys
from pathlib import Path
from components.shared.storage.store import open_store
store = open_store(sys.argv[1])
store.claim("warm", {})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store.publish(Path(sys.argv[2]), "model", "large")
assert store.fetch("model", "large", Path(sys.argv[3]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_200_mb_go_through_multipart_in_bounded_memory(served, tmp_path):
    folder = make_folder(tmp_path / "large", 200 << 20)
    command = [sys.executable, "-c", _MOVE, served[0], str(folder), str(tmp_path / "back")]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1024
    assert grown < 160, f"{grown:.0f} MiB for 200 MiB"
    head = open_store(served[0]).objects.client.head_object
    fact = write_manifest(folder, "model").files["model.safetensors"]
    answer = head(Bucket="wikigpt-test", Key=f"{served[0].rpartition('/')[2]}/blobs/{fact.sha256[:2]}/{fact.sha256}")
    assert answer["ETag"].strip('"').endswith("-25"), "25 parts"


def test_sigkill_in_the_middle_of_an_upload_leaves_no_manifest_and_a_rerun_succeeds(served, tmp_path):
    uri, env = served
    folder = make_folder(tmp_path / "made", 6 * PART_SIZE)
    store = open_store(uri)
    sent = []

    def plan(request):
        if request.method == "PUT" and "partNumber=" in request.path:
            sent.append(request)
            time.sleep(0.3)
        return PASS

    publish = (
        "import sys; from pathlib import Path; from components.shared.storage.store import open_store;"
        " open_store(sys.argv[1]).publish(Path(sys.argv[2]), 'model', 'f00d')"
    )
    with proxy(env["AWS_ENDPOINT_URL_S3"], plan) as slow:
        publisher = subprocess.Popen(
            [sys.executable, "-c", publish, uri, str(folder)], env={**os.environ, "AWS_ENDPOINT_URL_S3": slow}
        )
        deadline = time.monotonic() + 60
        while len(sent) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        publisher.kill()
        publisher.wait()
    assert store.names("model") == []
    assert store.find("model", "f00d") is None
    manifest = write_manifest(folder, "model")
    assert store.objects.size(key_of(manifest, "model.safetensors")) is None
    subprocess.run([sys.executable, "-c", publish, uri, str(folder)], check=True)
    assert store.fetch("model", "f00d", tmp_path / "back") == manifest
