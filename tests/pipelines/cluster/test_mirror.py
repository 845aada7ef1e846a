"""The steps find mirrored objects without the Hub."""

import hashlib
import json
import random
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

import pytest

from components.download.fetch import fetch_corpus
from components.download.settings import DownloadSettings
from components.shared.base.failure import ExitCode, Failure
from components.shared.storage.manifest import read_manifest, write_manifest
from components.shared.storage.store import open_store
from components.shared.text.articles import SPLITS
from components.tokenize.pretrained import load_pretrained
from components.train.settings import TrainSettings
from components.train.weights import fetch_weights
from pipelines.cluster.mirror import plan_mirror
from pipelines.config.settings import load
from pipelines.planned_changes import apply_changes, descriptions
from tests.http_servers import serving

VERSION = "models:/wikigpt@champion"
REVISION = "0123456789abcdef0123456789abcdef01234567"
TOKENIZER = {
    "tokenizer.json": json.dumps(
        {
            "version": "1.0",
            "added_tokens": [],
            "model": {"type": "BPE", "vocab": {"a": 0, "<|endoftext|>": 1}, "merges": []},
        }
    ).encode(),
    "tokenizer_config.json": b'{"eos_token": "<|endoftext|>"}',
}
REPOSITORY = {
    **TOKENIZER,
    "config.json": b'{"model_type": "gpt2"}',
    "model.safetensors": b"weights of a model",
    "pytorch_model.bin": b"a pickle",
    "modeling_evil.py": b"raise SystemExit('remote code')",
    "onnx/config.json": b"{}",
}
PRETRAINED = [
    "tokenize.tokenizer=team/tiny",
    f"tokenize.revision={REVISION}",
    "train.pretrained=team/tiny",
    f"train.revision={REVISION}",
]


class Hub(BaseHTTPRequestHandler):
    """One repository, with the calls of the Hub that a snapshot needs."""

    def do_GET(self):
        self._answer(body=True)

    def do_HEAD(self):
        self._answer(body=False)

    def _answer(self, body):
        path = unquote(urlsplit(self.path).path)
        if path.startswith(f"/team/tiny/resolve/{REVISION}/"):
            data = REPOSITORY[path.partition(f"{REVISION}/")[2]]
        elif path == f"/api/models/team/tiny/tree/{REVISION}":
            files = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in REPOSITORY.items()
            ]
            data = json.dumps(files).encode()
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", REVISION)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *args):
        return


def mirror(store, settings):
    """Plans and applies, and returns the mirrored objects."""
    plan = plan_mirror(store, settings)
    apply_changes(plan.changes)
    return plan.mirrored


@pytest.fixture
def text(tmp_path):
    folder = tmp_path / "text"
    folder.mkdir()
    for split in SPLITS:
        (folder / f"{split}.txt").write_text(f" = Title of {split} = \n \n words of {split} \n")
    return folder


def test_a_text_of_this_machine_gets_an_address_that_the_download_step_reads(s3_emulator, text, tmp_path, monkeypatch):
    uri, env = s3_emulator
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    store = open_store(uri)
    settings = load("quick").with_values("download", corpus=str(text), name="castles")
    (mirrored,) = mirror(store, settings)
    assert mirrored.settings == (f"download.corpus={mirrored.address}", "download.name=castles")
    assert mirrored.address.startswith(f"{uri}/corpora/")
    asked = DownloadSettings(corpus=mirrored.address, name="castles")
    there = fetch_corpus(asked, tmp_path / "there", open_store(f"{uri}-of-the-cluster"))
    here = fetch_corpus(settings.download, tmp_path / "here", store)
    assert there.metadata["dataset_digest"] == here.metadata["dataset_digest"]
    assert there.metadata["model_name"] == here.metadata["model_name"] == "wikigpt-castles"


def test_a_published_corpus_from_a_folder_is_then_known_by_its_name(real_data, store, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    (mirrored,) = mirror(store, load("quick").with_values("download", corpus=str(real_data / "wikitext-2")))
    assert mirrored.settings == ("download.corpus=wikitext-2-v1",)
    corpus = fetch_corpus(DownloadSettings(corpus="wikitext-2-v1"), tmp_path / "corpus", store)
    assert corpus.metadata["published"]
    assert read_manifest(tmp_path / "corpus", "corpus").metadata["dataset_digest"] in mirrored.address


def test_what_cannot_be_had_is_not_replaced_by_the_sample(store, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    assert load("quick").download.fall_back_to_sample
    with pytest.raises(Failure, match="cannot be downloaded from the Hub"):
        mirror(store, load("quick"))
    assert store.names("corpus") == []


def test_the_sample_needs_no_mirror(store):
    assert mirror(store, load("quick").with_values("download", corpus="sample")) == []


_MIRROR = """
import sys
from components.shared.storage.store import open_store
from pipelines.cluster.mirror import plan_mirror
from pipelines.config.settings import load
from pipelines.planned_changes import apply_changes
settings = load("quick", sys.argv[2:]).with_values("download", corpus="sample")
plan = plan_mirror(open_store(sys.argv[1]), settings)
apply_changes(plan.changes)
for each in plan.mirrored:
    print(each.settings, each.address)
"""


def test_pretrained_parts_come_from_the_hub_once_and_then_from_the_store(store, tmp_path, monkeypatch):
    with serving(Hub) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        command = [sys.executable, "-c", _MIRROR, store.uri, *PRETRAINED]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"() {store.uri}/manifests/pretrained/team/tiny@{REVISION}/{part}.json" for part in ("tokenizer", "weights")
    ]
    # The Hub cannot be reached; the steps find both in the store.
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    subprocess.run(command, check=True, timeout=120, capture_output=True)
    (tmp_path / "work").mkdir()
    tokenizer = load_pretrained("team/tiny", REVISION, tmp_path / "work", store)
    assert tokenizer.eos_token_id == 1
    settings = TrainSettings(pretrained="team/tiny", revision=REVISION, steps=1)
    folder = fetch_weights(settings, tmp_path / "weights", store)
    brought = {path.name for path in folder.iterdir()}
    assert brought == {"config.json", "model.safetensors", "manifest.json", *TOKENIZER}, "no pickle and no code"
    assert (folder / "model.safetensors").read_bytes() == REPOSITORY["model.safetensors"]


def test_weights_of_this_machine_get_an_address(store, tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "config.json").write_text("{}")
    (tmp_path / "weights" / "model.safetensors").write_bytes(b"w")
    settings = load("quick", [f"train.pretrained={tmp_path}/weights"]).with_values("download", corpus="sample")
    (mirrored,) = mirror(store, settings)
    assert mirrored.settings == (f"train.pretrained={mirrored.address}",)
    assert fetch_weights(TrainSettings(pretrained=mirrored.address, steps=1), tmp_path / "work").is_dir()


def test_a_folder_without_safetensors_is_refused_before_anything_is_stored(store, tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "pytorch_model.bin").write_bytes(b"a pickle")
    (tmp_path / "weights" / "config.json").write_text("{}")
    settings = load("quick", [f"train.pretrained={tmp_path}/weights"]).with_values("download", corpus="sample")
    with pytest.raises(Failure, match=r"contains no weights: none of its files matches \*\.safetensors") as caught:
        mirror(store, settings)
    assert caught.value.exit_code is ExitCode.USAGE
    assert list(store.objects.entries("")) == []


@pytest.mark.parametrize("seed", range(8))
def test_what_mirror_plans_is_what_it_copies(store, tmp_path, text, monkeypatch, seed):
    """Stores and settings with random subsets of the objects."""
    draw = random.Random(seed)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "config.json").write_text("{}")
    (tmp_path / "weights" / "model.safetensors").write_bytes(b"w")
    corpus = draw.choice(["sample", str(text)])
    weights = ["", f"train.pretrained={tmp_path}/weights", "train.pretrained=team/tiny"]
    tokenizers = [[], ["tokenize.tokenizer=team/tiny", f"tokenize.revision={REVISION}"]]
    revision = [f"train.revision={REVISION}"]
    hub = {"team/tiny": REPOSITORY}
    for part in draw.sample(["tokenizer", "weights"], draw.randint(0, 2)):
        folder = tmp_path / f"stored-{part}"
        folder.mkdir()
        (folder / "bytes").write_text(part)
        write_manifest(folder, "pretrained")
        store.publish(folder, "pretrained", f"team/tiny@{REVISION}/{part}")
    named = draw.choice(weights)
    chosen = [*draw.choice(tokenizers), *([named] if named else []), *(revision if "team" in named else [])]
    name = None if corpus == "sample" else "castles"
    settings = load("quick", chosen).with_values("download", corpus=corpus, name=name)

    def from_hub(part, name, revision, folder):
        folder.mkdir()
        for file, data in hub[name].items():
            if "/" not in file and (part == "weights" or file in TOKENIZER):
                (folder / file).write_bytes(data)
        return folder

    monkeypatch.setattr("pipelines.cluster.mirror.from_hub", from_hub)
    before = keys(store)
    planned = descriptions(plan_mirror(store, settings).changes)
    assert keys(store) == before, "planning changes nothing"
    assert planned == descriptions(plan_mirror(store, settings).changes)
    plan = plan_mirror(store, settings)
    assert descriptions(apply_changes(plan.changes).applied) == planned
    assert bool(keys(store) - before) == bool(planned)
    of_this_machine = [line for line in planned if str(tmp_path) in line.partition(" to ")[0]]
    assert descriptions(plan_mirror(store, settings).changes) == of_this_machine
    after = keys(store)
    assert sorted(map(repr, mirror(store, settings))) == sorted(map(repr, plan.mirrored))
    assert keys(store) == after, "copied twice, it changes nothing"


def keys(store):
    return {entry.key for entry in store.objects.entries("")}


def test_a_registered_version_is_in_mlflow_and_needs_no_copy(store):
    settings = load("quick", [f"train.pretrained={VERSION}", f"tokenize.tokenizer={VERSION}", "download.corpus=sample"])
    plan = plan_mirror(store, settings)
    assert (plan.changes, plan.mirrored) == ([], [])
