"""Responses of S3 that are lost, truncated or badly timed, on the emulator; the slow tests use a real server.

More of them, which take longer, are in tests/integration/test_s3_faults.py.
"""

import pytest

from components.shared.base.failure import ExitCode, Failure
from components.shared.storage.manifest import write_manifest
from components.shared.storage.s3_transfer import PART_SIZE
from components.shared.storage.store import open_store
from tests.s3_servers import CONFLICT, CUT_ANSWER, LOST, NO_SUCH_UPLOAD, PASS, proxy


@pytest.fixture(params=["s3_emulator", pytest.param("s3_server", marks=pytest.mark.slow)])
def served(request, monkeypatch):
    """The address of a store; its endpoint is set in the environment."""
    uri, env = request.getfixturevalue(request.param)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return uri, env["AWS_ENDPOINT_URL_S3"]


def make_folder(folder, weights):
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(weights)
    write_manifest(folder, "model", {})
    return folder


class Plan:
    """One fault for each of the first requests that match, and the requests."""

    def __init__(self, fits, *faults):
        self.fits, self.faults, self.asked = fits, list(faults), []

    def __call__(self, request):
        if not self.fits(request):
            return PASS
        self.asked.append(request)
        return self.faults.pop(0) if self.faults else PASS


def writes_manifest(request):
    return request.method == "PUT" and "/manifests/" in request.path


def completes(request):
    return request.method == "POST" and "uploadId=" in request.path


@pytest.mark.slow
def test_a_conflict_with_a_writer_who_is_not_visible_yet_leaves_the_manifest_to_that_writer(
    served, tmp_path, monkeypatch
):
    uri, endpoint = served
    other = open_store(uri)
    theirs, ours = make_folder(tmp_path / "theirs", b"their weights"), make_folder(tmp_path / "ours", b"our weights")
    plan = Plan(writes_manifest, CONFLICT, CONFLICT)

    def other_appears_after_the_second_conflict(request):
        if writes_manifest(request) and len(plan.asked) == 2:
            other.publish(theirs, "model", "f00d")
        return plan(request)

    with proxy(endpoint, other_appears_after_the_second_conflict) as faulty:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", faulty)
        standing = open_store(uri).publish(ours, "model", "f00d")
    assert standing.files == write_manifest(theirs, "model", {}).files
    assert other.find("model", "f00d") == standing
    assert len(plan.asked) == 3
    assert all(request.conditional for request in plan.asked)


def test_a_conflict_with_a_writer_who_gives_up_leaves_the_manifest_to_us(served, tmp_path, monkeypatch):
    uri, endpoint = served
    ours = make_folder(tmp_path / "ours", b"our weights")
    plan = Plan(writes_manifest, CONFLICT)
    with proxy(endpoint, plan) as faulty:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", faulty)
        store = open_store(uri)
        assert store.publish(ours, "model", "f00d") == store.find("model", "f00d")
    assert [request.conditional for request in plan.asked] == [True, True]


def test_an_endless_conflict_is_reported_in_one_sentence(served, monkeypatch):
    uri, endpoint = served
    monkeypatch.setattr("components.shared.storage.store._PAUSES", (0.01, 0.01))
    plan = Plan(lambda request: "/claims/" in request.path and request.method == "PUT", *[CONFLICT] * 9)
    with proxy(endpoint, plan) as faulty:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", faulty)
        store = open_store(uri)
        with pytest.raises(Failure, match=r"that object never appears .*claims/x.json") as caught:
            store.claim("x", {"run": "a"})
    assert caught.value.exit_code is ExitCode.UNREACHABLE


@pytest.mark.parametrize("again", [PASS, NO_SUCH_UPLOAD], ids=["the server remembers", "the upload is gone"])
def test_a_lost_response_to_a_completed_upload_is_not_a_failure(served, tmp_path, monkeypatch, again):
    """Ceph and AWS answer a repeated completion like the first one; the protocol also allows NoSuchUpload."""
    uri, endpoint = served
    direct = open_store(uri)
    folder = make_folder(tmp_path / "made", bytes(range(256)) * (PART_SIZE // 256) + b"tail")
    plan = Plan(completes, LOST, again)
    with proxy(endpoint, plan) as faulty:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", faulty)
        manifest = open_store(uri).publish(folder, "model", "f00d")
    assert len(plan.asked) == 2
    assert direct.fetch("model", "f00d", tmp_path / "back") == manifest


def test_an_upload_that_is_gone_before_it_was_completed_is_a_failure(served, tmp_path, monkeypatch):
    uri, endpoint = served
    direct, folder = open_store(uri), make_folder(tmp_path / "made", b"x" * (PART_SIZE + 1))
    with proxy(endpoint, Plan(completes, NO_SUCH_UPLOAD)) as faulty:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", faulty)
        with pytest.raises(Failure, match="Object storage answered NoSuchUpload"):
            open_store(uri).publish(folder, "model", "f00d")
    assert direct.names("model") == []


def test_a_lost_response_to_a_manifest_keeps_its_writer(served, tmp_path, monkeypatch):
    uri, endpoint = served
    folder = make_folder(tmp_path / "made", b"weights")
    plan = Plan(writes_manifest, LOST)
    with proxy(endpoint, plan) as faulty:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", faulty)
        store = open_store(uri)
        assert store.publish(folder, "model", "f00d") == store.find("model", "f00d")
    assert [request.conditional for request in plan.asked] == [True, True]


@pytest.mark.parametrize(
    ("part", "read"),
    [
        ("/claims/x.json", lambda store, _: store.claimed("x") == {"run": "a" * 1000}),
        ("prefix=", lambda store, _: store.claims() == ["x"]),
        ("/blobs/", lambda store, folder: bool(store.fetch("model", "f00d", folder))),
        ("/manifests/", lambda store, folder: bool(store.fetch("model", "f00d", folder))),
    ],
    ids=["record", "listing", "blob", "manifest"],
)
def test_a_truncated_response_is_requested_again(served, tmp_path, monkeypatch, part, read):
    uri, endpoint = served
    direct = open_store(uri)
    direct.claim("x", {"run": "a" * 1000})
    direct.publish(make_folder(tmp_path / "made", bytes(PART_SIZE) + b"tail"), "model", "f00d")
    plan = Plan(lambda request: request.method == "GET" and part in request.path, CUT_ANSWER)
    with proxy(endpoint, plan) as faulty:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", faulty)
        assert read(open_store(uri), tmp_path / "back")
    assert len(plan.asked) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("part", ["/claims/x.json", "prefix="], ids=["record", "listing"])
def test_repeatedly_truncated_responses_are_reported_in_one_sentence(served, monkeypatch, part):
    uri, endpoint = served
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    open_store(uri).claim("x", {"run": "a" * 1000})
    plan = Plan(lambda request: request.method == "GET" and part in request.path, *[CUT_ANSWER] * 99)
    with proxy(endpoint, plan) as faulty:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", faulty)
        store = open_store(uri)
        with pytest.raises(Failure) as caught:
            store.claims() if part == "prefix=" else store.claimed("x")
    assert caught.value.exit_code is ExitCode.UNREACHABLE
