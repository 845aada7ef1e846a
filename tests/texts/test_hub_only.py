"""Names of the Hub are read from the Hub: no folder is read instead, and only network errors allow a fall-back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import requests
from huggingface_hub import errors

from components.download.hub import REPOSITORY, rebuild
from components.shared.base.failure import ExitCode
from components.shared.model.hub_errors import hub_failure
from tests.components.download.hub_server import data_set, hub
from tests.http_servers import serving
from tests.pipelines.cluster.test_mirror import REPOSITORY as TINY
from tests.pipelines.cluster.test_mirror import REVISION, Hub

ROOT = Path(__file__).parents[2]
ROWS = {split: ["", f" = {split} = \n", "", " words of the Hub \n"] for split in ("train", "validation", "test")}
# With the fall-back, as in the profile `quick`: the result is a corpus, or the exit code and the message.
FETCH = """
import resource, sys
from pathlib import Path
from components.download.fetch import fetch_corpus
from components.download.settings import DownloadSettings
from components.shared.base.failure import Failure
from components.shared.storage.store import open_store
if sys.argv[2:]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
root = Path(sys.argv[1])
settings = DownloadSettings(corpus="wikitext-2-v1", fall_back_to_sample=True)
try:
    print(fetch_corpus(settings, root / "out", open_store(str(root / "store"))).metadata["name"])
except Failure as failure:
    print(failure, file=sys.stderr)
    sys.exit(int(failure.exit_code))
"""


PRETRAINED = f"""
from pathlib import Path
from components.tokenize.pretrained import load_pretrained
from components.train.settings import TrainSettings
from components.train.weights import fetch_weights
weights = fetch_weights(TrainSettings(steps=1, pretrained="team/tiny", revision="{REVISION}"), Path("work"))
tokenizer = load_pretrained("team/tiny", "{REVISION}", Path("work"))
print((weights / "model.safetensors").read_text(), sorted(tokenizer.get_vocab()))
"""


def fetch(url: str, root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run(FETCH, url, root, *arguments, **variables)


def run(code: str, url: str, root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": url,
        "HF_HOME": str(root / "hf"),
        "HF_HUB_OFFLINE": "0",
        **variables,
    }
    command = [sys.executable, "-c", code, str(root), *arguments]
    return subprocess.run(command, cwd=root, env=env, capture_output=True, encoding="utf-8", timeout=120)


def test_a_folder_in_the_working_folder_is_not_taken_for_the_corpus(tmp_path):
    for name, content in data_set("wikitext-2-v1", {split: [f" {split} of a folder \n"] for split in ROWS}).items():
        path = tmp_path / REPOSITORY / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with hub(data_set("wikitext-2-v1", ROWS)) as served:
        ended = fetch(served.url, tmp_path)
    size = len(rebuild(ROWS["train"]))
    assert f"The bytes are not those of wikitext-2-v1: train.txt has {size} bytes" in ended.stderr
    assert ended.returncode == ExitCode.FAILED


def test_a_folder_in_the_working_folder_is_not_taken_for_pretrained_weights(tmp_path):
    for name, content in TINY.items():
        path = tmp_path / "team" / "tiny" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}" if name.endswith(".json") else content + b" of a folder")
    with serving(Hub) as url:
        ended = run(PRETRAINED, url, tmp_path)
    assert ended.stdout == "weights of a model ['<|endoftext|>', 'a']\n", ended.stderr


@pytest.mark.parametrize(
    ("status", "code", "exit_code", "what"),
    [
        (401, "RepoNotFound", ExitCode.UNAUTHORISED, "no such repository, or it is not open to you (HTTP 401)"),
        (403, "GatedRepo", ExitCode.UNAUTHORISED, "it is not open to you (HTTP 403)"),
        (404, "RevisionNotFound", ExitCode.FAILED, "it has no such revision"),
    ],
)
def test_what_the_hub_refuses_does_not_end_in_the_sample(tmp_path, status, code, exit_code, what):
    with hub({}, refusal=(status, code)) as served:
        ended = fetch(served.url, tmp_path)
    assert (ended.returncode, ended.stdout) == (exit_code, "")
    assert f"wikitext-2-v1 cannot be downloaded from the Hub: {'' if status == 404 else 'there is '}" in ended.stderr
    assert what in ended.stderr


def test_a_cache_that_cannot_be_written_does_not_end_in_the_sample(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with hub(data_set("wikitext-2-v1", ROWS)) as served:
        ended = fetch(served.url, tmp_path, HF_HOME=str(tmp_path / "file"))
    assert (ended.returncode, ended.stdout) == (ExitCode.FAILED, "")
    assert "the cache of the Hub cannot be used: " in ended.stderr
    assert str(tmp_path / "file") in ended.stderr and "set HF_HOME" in ended.stderr


def test_a_full_disk_does_not_end_in_the_sample(tmp_path):
    with hub(data_set("wikitext-2-v1", ROWS)) as served:
        ended = fetch(served.url, tmp_path, "100")
    assert (ended.returncode, ended.stdout) == (ExitCode.FAILED, "")
    assert "the cache of the Hub cannot be used: File too large" in ended.stderr


@pytest.mark.slow
def test_a_damaged_cache_does_not_end_in_the_sample(tmp_path):
    with hub(data_set("wikitext-2-v1", ROWS)) as served:
        fetch(served.url, tmp_path)
        (kept,) = (tmp_path / "hf").rglob("train-*.parquet")
        kept.write_bytes(kept.read_bytes()[:100])
        ended = fetch(served.url, tmp_path)
    assert (ended.returncode, ended.stdout) == (ExitCode.FAILED, "")
    assert "The cached files of the train split from the Hub are damaged" in ended.stderr


@pytest.mark.slow
def test_a_hub_that_is_down_ends_in_the_sample_and_says_so(tmp_path):
    with hub({}, refusal=(503, "")) as served:
        ended = fetch(served.url, tmp_path)
    assert ended.returncode == 0
    *notes, name = ended.stdout.splitlines()
    assert name == "sample"
    assert "the Hub is busy or down (HTTP 503). The run uses" in json.loads(notes[0])["text"]


def answered(status: int, kind: type[errors.HfHubHTTPError] = errors.HfHubHTTPError) -> errors.HfHubHTTPError:
    return kind("said", response=httpx2.Response(status, request=httpx2.Request("GET", "https://hub.example")))


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


MISSING = errors.LocalEntryNotFoundError("the network may be down")
# The exception of the library, whether it is a network error, and the message.
ERRORS = {
    "no connection": (caused(errors.LocalEntryNotFoundError("x"), httpx2.ConnectError("no route")), True, "reached"),
    "no answer": (httpx2.ReadTimeout("late"), True, "it cannot be reached (ReadTimeout)"),
    "cut": (httpx2.RemoteProtocolError("cut"), True, "it cannot be reached"),
    "no connection, requests": (requests.ConnectionError("no route"), True, "it cannot be reached (ConnectionError)"),
    "reset": (ConnectionResetError(104, "reset"), True, "it cannot be reached (ConnectionResetError)"),
    "busy": (caused(errors.LocalEntryNotFoundError("x"), answered(503)), True, "busy or down (HTTP 503)"),
    "too many": (answered(429), True, "busy or down (HTTP 429)"),
    "switched off": (caused(errors.LocalEntryNotFoundError("x"), errors.OfflineModeIsEnabled("off")), True, "OFFLINE"),
    "refused, as missing": (caused(errors.LocalEntryNotFoundError("x"), answered(403)), False, "(HTTP 403)"),
    "no revision": (answered(404, errors.RevisionNotFoundError), False, "no such revision"),
    "no permission": (PermissionError(13, "Permission denied", "/srv/hf"), False, "Permission denied (/srv/hf)"),
    "read-only": (OSError(30, "Read-only file system", "/srv/hf"), False, "Read-only file system"),
    "full": (OSError(28, "No space left on device"), False, "No space left on device"),
    "no folder": (FileNotFoundError(2, "No such file or directory", "/proc/hf"), False, "/proc/hf"),
    "no metadata": (caused(errors.LocalEntryNotFoundError("x"), errors.FileMetadataError("y")), False, "LocalEntryNot"),
    "no address": (requests.exceptions.MissingSchema("hub"), False, "is not the address of a Hub"),
    "no such scheme": (httpx2.UnsupportedProtocol("ftp"), False, "is not the address of a Hub"),
    "a bug": (TypeError("odd"), False, "TypeError: odd"),
}  # fmt: skip


@pytest.mark.parametrize(("error", "network", "said"), ERRORS.values(), ids=ERRORS)
def test_only_a_network_error_means_that_the_hub_cannot_be_reached(monkeypatch, error, network, said):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    failure = hub_failure(error, "It cannot be had", "https://hub.example", "give a folder")
    assert (failure.exit_code == ExitCode.UNREACHABLE) == network
    assert said in failure.what
    assert failure.remedy.endswith(", or give a folder")
