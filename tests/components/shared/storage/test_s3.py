"""The store on an emulated S3 server: the behaviour that every server must have, and the message of each fault."""

from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler

import pytest

from components.shared.base.failure import ExitCode, Failure
from components.shared.storage.manifest import MANIFEST, write_manifest
from components.shared.storage.s3 import S3Objects
from components.shared.storage.s3_transfer import PART_SIZE
from components.shared.storage.store import open_store
from tests.http_servers import free_port, serving
from tests.s3_servers import BUSY, PASS, proxy


@pytest.fixture
def uri(s3_emulator, monkeypatch):
    uri, env = s3_emulator
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return uri


@pytest.fixture
def endpoint(s3_emulator):
    return s3_emulator[1]["AWS_ENDPOINT_URL_S3"]


@pytest.fixture
def folder(tmp_path):
    """Three small files and an empty one."""
    return make_folder(tmp_path / "made", b"weights")


@pytest.fixture
def large(tmp_path):
    """The same, with weights that are larger than one part."""
    return make_folder(tmp_path / "large", bytes(range(256)) * (PART_SIZE // 256) + b"tail")


def make_folder(made, weights):
    (made / "tokenizer").mkdir(parents=True)
    (made / "model.safetensors").write_bytes(weights)
    (made / "tokenizer" / "vocab.json").write_text("{}")
    (made / "config.json").write_text('{"n": 1}')
    (made / "empty").touch()
    write_manifest(made, "model", {"steps": 3})
    return made


def key_of(manifest, name):
    digest = manifest.files[name].sha256
    return f"blobs/{digest[:2]}/{digest}"


def calls(store):
    """Records the operations that a store requests from now on."""
    made: list[str] = []
    store.objects.client.meta.events.register("before-call.s3", lambda model, **_: made.append(model.name))
    return made


def test_a_published_folder_comes_back(uri, large, tmp_path):
    store = open_store(uri)
    published = store.publish(large, "model", "f00d/1")
    assert store.find("model", "f00d/1") == published
    assert store.names("model", "f00d/") == ["f00d/1"]
    assert open_store(uri).fetch("model", "f00d/1", tmp_path / "back") == published
    for name in [*published.files, MANIFEST]:
        assert (tmp_path / "back" / name).read_bytes() == (large / name).read_bytes()
    assert {path.name for path in (tmp_path / "back").iterdir()} == {path.name for path in large.iterdir()}


def test_publishing_again_uploads_nothing(uri, folder):
    store = open_store(uri)
    first = store.publish(folder, "model", "one")
    made = calls(store)
    assert store.publish(folder, "model", "one") == first
    assert sorted(made) == ["GetObject", *["HeadObject"] * 4, "PutObject"]


def test_fetching_a_small_folder_takes_one_request_per_file(uri, folder, tmp_path):
    store = open_store(uri)
    store.publish(folder, "model", "one")
    made = calls(store)
    store.fetch("model", "one", tmp_path / "back")
    assert sorted(made) == [*["GetObject"] * 4, "HeadObject"]


def test_opening_a_used_store_takes_one_request(uri):
    open_store(uri)
    objects = S3Objects(uri)
    made: list[str] = []
    objects.client.meta.events.register("before-call.s3", lambda model, **_: made.append(model.name))
    objects.check_conditional_writes()
    assert made == ["PutObject"]


def test_a_claim_has_one_owner(uri):
    store, other = open_store(uri), open_store(uri)
    assert store.claim("x", {"run": "a"}) == {"run": "a"}
    assert other.claim("x", {"run": "b"}) == {"run": "a"}
    other.release("x")
    assert store.claimed("x") is None


def test_blobs_without_a_manifest_are_found(uri, folder):
    store = open_store(uri)
    manifest = store.publish(folder, "model", "f00d")
    assert store.unused(spare=-60) == []
    store.forget("model", "f00d")
    unused = store.unused(spare=-60)
    assert {entry.key for entry in unused} == {key_of(manifest, name) for name in manifest.files}
    store.discard(entry.key for entry in unused)
    assert list(store.objects.entries("blobs/")) == []


def test_a_damaged_blob_is_refused_by_its_key(uri, folder, tmp_path):
    store = open_store(uri)
    manifest = store.publish(folder, "model", "f00d")
    key = key_of(manifest, "model.safetensors")
    store.objects.put(key, b"x" * manifest.files["model.safetensors"].size)
    with pytest.raises(Failure, match=f"damaged.*{key}.*delete that object"):
        store.fetch("model", "f00d", tmp_path / "back")
    assert not (tmp_path / "back" / "model.safetensors").exists()
    assert not (tmp_path / "back" / MANIFEST).exists()


@pytest.mark.parametrize("length", [3, 300], ids=["shorter", "longer"])
def test_a_blob_of_another_size_is_damaged_until_it_is_published_again(uri, folder, tmp_path, length):
    store = open_store(uri)
    manifest = store.publish(folder, "model", "f00d")
    store.objects.put(key_of(manifest, "model.safetensors"), b"x" * length)
    assert store.find("model", "f00d") is None
    with pytest.raises(Failure, match="damaged"):
        store.fetch("model", "f00d", tmp_path / "back")
    store.publish(folder, "model", "f00d")
    assert store.fetch("model", "f00d", tmp_path / "back") == manifest


def test_a_folder_with_a_missing_blob_does_not_exist(uri, folder, tmp_path):
    store = open_store(uri)
    manifest = store.publish(folder, "model", "f00d")
    store.objects.delete(key_of(manifest, "model.safetensors"))
    assert store.find("model", "f00d") is None
    assert store.fetch("model", "f00d", tmp_path / "back") is None
    assert [path.name for path in (tmp_path / "back").iterdir() if path.name.endswith(".part")] == []


def test_a_file_that_changes_while_it_is_sent_leaves_no_object(uri, large):
    store = open_store(uri)
    fact = write_manifest(large, "model").files["model.safetensors"]
    (large / "model.safetensors").write_bytes(b"y" * fact.size)
    with pytest.raises(Failure, match="changed while it was uploaded"):
        store.objects.upload("blobs/aa/aa", large / "model.safetensors", fact)
    assert store.objects.size("blobs/aa/aa") is None


def test_an_interrupted_download_is_resumed(uri, large, tmp_path, monkeypatch, endpoint):
    manifest = open_store(uri).publish(large, "model", "f00d")
    key, fact = key_of(manifest, "model.safetensors"), manifest.files["model.safetensors"]
    target, seen = tmp_path / "model.safetensors", []

    def second_piece_fails_once(request):
        first_time = request.range not in seen
        seen.append(request.range)
        return BUSY if request.range.startswith(f"bytes={PART_SIZE}-") and first_time else PASS

    with proxy(endpoint, second_piece_fails_once) as faulty:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", faulty)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        objects = S3Objects(uri)
        with pytest.raises(Failure, match="overloaded or down"):
            objects.download(key, target, fact)
        assert not target.exists()
        seen_before = len(seen)
        assert objects.download(key, target, fact)
    assert target.read_bytes() == (large / "model.safetensors").read_bytes()
    assert seen[seen_before:] == [f"bytes={PART_SIZE}-{fact.size - 1}"]


def test_a_partial_file_with_wrong_bytes_is_deleted_once(uri, folder, tmp_path):
    store = open_store(uri)
    manifest = store.publish(folder, "model", "f00d")
    fact = manifest.files["model.safetensors"]
    (tmp_path / f".model.safetensors.{fact.sha256[:12]}.part").write_bytes(b"not what was sent")
    assert store.objects.download(key_of(manifest, "model.safetensors"), tmp_path / "model.safetensors", fact)
    assert (tmp_path / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


class Page(BaseHTTPRequestHandler):
    """A console that answers every request with its front page."""

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>Console</title>")

    def log_message(self, *args):
        return


class Silent(SimpleHTTPRequestHandler):
    """A web server that does not support PUT."""

    def log_message(self, *args):
        return


@pytest.mark.parametrize("handler", [Page, Silent])
def test_a_web_page_as_endpoint_is_reported(uri, monkeypatch, handler):
    with serving(handler) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        with pytest.raises(Failure, match=f"not S3, such as a web page.*{address}.*AWS_ENDPOINT_URL_S3") as caught:
            open_store(uri)
    assert caught.value.exit_code is ExitCode.UNREACHABLE


class Unconditional(Page):
    """A server that accepts every write and ignores its condition."""

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("ETag", '"d41d8cd98f00b204e9800998ecf8427e"')
        self.send_header("Content-Length", "0")
        self.end_headers()


def test_a_server_that_ignores_conditions_is_refused_at_the_start(uri, monkeypatch):
    with serving(Unconditional) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        with pytest.raises(Failure, match="ignores the condition of a conditional write"):
            open_store(uri)


def test_a_missing_bucket_is_reported(uri):
    with pytest.raises(Failure, match=r"The bucket does not exist \(s3://no-such-bucket/x.*: create it"):
        open_store("s3://no-such-bucket/x")


def test_an_unreachable_endpoint_is_named(uri, monkeypatch):
    address = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    with pytest.raises(Failure, match=f"cannot be reached.*{address}") as caught:
        open_store(uri)
    assert caught.value.exit_code is ExitCode.UNREACHABLE


def test_missing_credentials_are_reported(uri, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(Failure, match="There are no credentials") as caught:
        open_store(uri)
    assert caught.value.exit_code is ExitCode.UNAUTHORISED


@pytest.mark.parametrize(
    ("address", "variables", "sentence"),
    [
        ("s3://", {}, "names no bucket"),
        ("s3:///prefix", {}, "names no bucket"),
        ("s3://Bad!Bucket/x", {}, "No bucket can be called 'Bad!Bucket'"),
        ("s3://bucket/x", {"WIKIGPT_S3_CHECKSUMS": "never"}, "WIKIGPT_S3_CHECKSUMS is 'never'"),
        ("s3://bucket/x", {"WIKIGPT_S3_PATH_STYLE": "yes"}, "WIKIGPT_S3_PATH_STYLE is 'yes'"),
        ("s3://bucket/x", {"AWS_ENDPOINT_URL_S3": "localhost:9000"}, "AWS_ENDPOINT_URL_S3 is 'localhost:9000'"),
    ],
)
def test_a_wrong_address_or_setting_is_wrong_usage(uri, monkeypatch, address, variables, sentence):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Failure, match=sentence) as caught:
        open_store(address)
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("style", "url"),
    [("1", "https://s3.eu-west-1.amazonaws.com/team/x"), ("0", "https://team.s3.eu-west-1.amazonaws.com/x")],
)
def test_the_style_of_addresses_is_a_setting(uri, monkeypatch, style, url):
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("WIKIGPT_S3_PATH_STYLE", style)
    objects = S3Objects("s3://team/")
    signed = objects.client.generate_presigned_url("get_object", Params=objects._object("x"))
    assert signed.startswith(f"{url}?")


@pytest.mark.parametrize(("setting", "trailing"), [("when_supported", True), ("when_required", False)])
def test_checksums_are_a_setting_and_every_part_has_one(uri, monkeypatch, large, setting, trailing):
    monkeypatch.setenv("WIKIGPT_S3_CHECKSUMS", setting)
    store = open_store(uri)
    sent = []
    store.objects.client.meta.events.register("before-send.s3.UploadPart", lambda request, **_: sent.append(request))
    store.publish(large, "model", "f00d")
    assert len(sent) == 2
    for request in sent:
        assert ("x-amz-checksum-crc32" in request.headers) is trailing
        assert len(request.headers["X-Amz-Content-SHA256"]) == 64
