"""The Hub's rows, and a machine that cannot reach it."""

import hashlib
import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from components.download.corpora import KNOWN, RAW, SAMPLE, TOKENS, dataset_digest
from components.download.fetch import fetch_corpus
from components.download.hub import REVISION, _check_reachable, rebuild
from components.download.settings import DownloadSettings
from components.shared.base.failure import ExitCode, Failure
from components.shared.storage.files import FileFact
from components.shared.storage.manifest import read_manifest, write_manifest
from components.shared.storage.store import open_store
from components.shared.text.articles import SPLITS, split_lines
from tests.components.download.hub_server import data_set, hub
from tests.http_servers import serving

RELEASED = {"train": "train", "validation": "valid", "test": "test"}


def as_rows(data: bytes) -> list[str]:
    """Rows as the Hub's data set has them: its script yields an empty text for a line that is blank."""
    return [line if line.strip() else "" for line in split_lines(data.decode())]


def test_rows_rebuild_the_released_bytes(real_data):
    facts = {}
    for split in SPLITS:
        rows = as_rows((real_data / "wikitext-2" / f"wiki.{RELEASED[split]}.tokens").read_bytes())
        data = rebuild(rows)
        facts[split] = FileFact(len(data), hashlib.sha256(data).hexdigest())
    assert dataset_digest(facts) == TOKENS.dataset_digest


@pytest.mark.parametrize(("split", "count"), [("validation", 3760), ("test", 4358)])
def test_rows_of_the_raw_release_rebuild_its_bytes(real_data, split, count):
    rows = as_rows((real_data / "wikitext-2-raw" / f"wiki.{RELEASED[split]}.raw").read_bytes())
    assert len(rows) == count
    data = rebuild(rows)
    assert FileFact(len(data), hashlib.sha256(data).hexdigest()) == RAW.files[split]


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    """A Hub at a host name that does not exist."""
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return open_store(str(tmp_path / "store"))


def test_a_connection_to_the_hub_that_is_dropped_is_tried_again(monkeypatch):
    monkeypatch.setattr("components.download.hub._PAUSE", 0.01)
    answered = []

    class DropsTwice(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            answered.append(self.path)
            if len(answered) < 3:
                self.connection.close()
                return
            self.send_response(200)
            self.end_headers()

    with serving(DropsTwice) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        _check_reachable()
    assert len(answered) == 3


@pytest.mark.parametrize("name", KNOWN)
def test_without_the_hub_the_failure_says_what_was_tried_and_what_to_do(no_hub, tmp_path, name):
    started = time.monotonic()
    with pytest.raises(Failure, match=f"The corpus {name} cannot be downloaded from the Hub") as failure:
        fetch_corpus(DownloadSettings(corpus=name), tmp_path / "out", no_hub)
    assert time.monotonic() - started < 8
    assert failure.value.exit_code == ExitCode.UNREACHABLE
    assert "Salesforce/wikitext" in failure.value.where
    assert "--corpus" in failure.value.remedy
    assert "WIKIGPT_CORPUS" in failure.value.remedy
    assert not (tmp_path / "out").exists()


def test_the_fall_back_is_the_sample_and_is_announced(no_hub, tmp_path, capsys):
    manifest = fetch_corpus(DownloadSettings(fall_back_to_sample=True), tmp_path / "out", no_hub)
    assert (manifest.metadata["name"], manifest.metadata["model_name"]) == (SAMPLE, "wikigpt-sample")
    notes = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "sample corpus instead of wikitext-2-raw-v1" in notes[0]["text"]


def test_a_folder_that_is_missing_is_no_reason_to_fall_back(no_hub, tmp_path):
    with pytest.raises(Failure, match="no such folder"):
        fetch_corpus(DownloadSettings(corpus="nowhere", fall_back_to_sample=True), tmp_path / "out", no_hub)


def test_a_release_in_the_store_needs_no_hub(no_hub, tmp_path, real_data):
    fetch_corpus(DownloadSettings(corpus=str(real_data / "wikitext-2")), tmp_path / "first", no_hub)
    manifest = fetch_corpus(DownloadSettings(corpus="wikitext-2-v1"), tmp_path / "out", no_hub)
    assert manifest.metadata["dataset_digest"] == TOKENS.dataset_digest
    assert manifest.metadata["published"]


def test_other_bytes_in_the_store_under_the_name_of_a_release_are_refused(no_hub, tmp_path, own_folder: Path):
    write_manifest(own_folder, "corpus")
    no_hub.publish(own_folder, "corpus", RAW.dataset_digest)
    with pytest.raises(Failure, match="The bytes are not those of wikitext-2-raw-v1"):
        fetch_corpus(DownloadSettings(), tmp_path / "out", no_hub)


class TestDownload:
    """Downloads in a separate process from a server with the part of the Hub's protocol that the library needs."""

    CODE = """
import sys
from pathlib import Path
from components.download.fetch import fetch_corpus
from components.download.settings import DownloadSettings
from components.shared.base.failure import Failure
from components.shared.storage.store import open_store
try:
    fetch_corpus(DownloadSettings(corpus="wikitext-2-v1"), Path(sys.argv[1]), open_store(sys.argv[2]))
except Failure as failure:
    sys.exit(str(failure))
"""

    def fetch(self, url: str, tmp_path: Path) -> subprocess.CompletedProcess:
        env = {**os.environ, "HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
        arguments = [sys.executable, "-c", self.CODE, str(tmp_path / "out"), str(tmp_path / "store")]
        return subprocess.run(arguments, env=env, capture_output=True, text=True, timeout=300)

    @pytest.mark.slow
    def test_the_pinned_revision_gives_the_released_corpus(self, real_data, tmp_path):
        released = real_data / "wikitext-2"
        rows = {split: as_rows((released / f"wiki.{RELEASED[split]}.tokens").read_bytes()) for split in SPLITS}
        with hub(data_set("wikitext-2-v1", rows)) as served:
            ended = self.fetch(served.url, tmp_path)
        assert ended.returncode == 0, ended.stderr
        facts = read_manifest(tmp_path / "out", "corpus").metadata
        assert facts["dataset_digest"] == TOKENS.dataset_digest
        assert REVISION[:12] in facts["source"]

    @pytest.mark.slow
    def test_other_rows_are_refused_and_nothing_is_left(self, tmp_path):
        rows = {split: ["", " = Other = \n", "", " words \n"] for split in SPLITS}
        with hub(data_set("wikitext-2-v1", rows)) as served:
            ended = self.fetch(served.url, tmp_path)
        assert ended.returncode == 1
        assert "The bytes are not those of wikitext-2-v1" in ended.stderr
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "store").exists()
