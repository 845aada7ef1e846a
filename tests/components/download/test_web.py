"""Downloads from a real server on this machine that fails in the ways in which servers fail."""

import hashlib
import json
import os
import time

import pytest
from tenacity import wait_none

from components.download.fetch import fetch_corpus
from components.download.settings import DownloadSettings
from components.download.web import ATTEMPTS, download
from components.shared.base.failure import ExitCode, Failure
from components.shared.storage.store import open_store
from tests.components.download.conftest import zip_of
from tests.components.download.server import Site, serving

CONTENT = os.urandom(3 << 20)


def fetch(site: Site, tmp_path) -> bytes:
    with serving(site):
        download(site.url, tmp_path / "file", wait=wait_none())
    return (tmp_path / "file").read_bytes()


def test_a_download_is_complete_and_reports_progress(tmp_path, capsys):
    assert fetch(Site(CONTENT), tmp_path) == CONTENT
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["progress"] * len(events)
    assert events[-1]["done"] == events[-1]["total"] == len(CONTENT)
    assert len(events) >= 3


def test_a_busy_server_is_asked_again(tmp_path):
    site = Site(CONTENT, faults=["busy", "busy"])
    assert fetch(site, tmp_path) == CONTENT
    assert len(site.ranges) == 3


def test_a_cut_is_resumed_where_it_happened(tmp_path):
    site = Site(CONTENT, faults=["cut", "cut"])
    assert fetch(site, tmp_path) == CONTENT
    assert site.ranges[0] is None
    assert site.ranges[1] == f"bytes={len(CONTENT) // 2}-"
    assert site.ranges[2] is not None


def test_a_file_that_changed_meanwhile_is_fetched_from_its_start(tmp_path):
    class Changing(Site):
        @property
        def etag(self):
            return f'"v{len(self.ranges)}"'

        @etag.setter
        def etag(self, value):
            return None

    assert fetch(Changing(CONTENT, faults=["cut"]), tmp_path) == CONTENT


def test_a_server_that_always_cuts_is_given_up_on(tmp_path):
    site = Site(CONTENT, forever="cut")
    with pytest.raises(
        Failure, match=r"early in all 5 attempts, the last time after [\d,]+ of 3,145,728 bytes"
    ) as failure:
        fetch(site, tmp_path)
    assert failure.value.where == site.url
    assert len(site.ranges) == ATTEMPTS


@pytest.mark.parametrize(
    ("fault", "status", "exit_code"), [("missing", 404, ExitCode.FAILED), ("forbidden", 403, ExitCode.UNAUTHORISED)]
)
def test_a_refusal_names_the_address_and_is_not_repeated(tmp_path, fault, status, exit_code):
    site = Site(CONTENT, forever=fault)
    with pytest.raises(Failure, match=f"answered {status}") as failure:
        fetch(site, tmp_path)
    assert failure.value.where == site.url
    assert failure.value.exit_code == exit_code
    assert len(site.ranges) == 1


def test_an_address_is_shown_without_its_secrets(tmp_path):
    with serving(Site(CONTENT, forever="missing")) as site, pytest.raises(Failure) as failure:
        download(site.url.replace("//", "//user:secret@") + "?token=secret", tmp_path / "file")
    assert "secret" not in str(failure.value)


def test_a_name_that_nobody_knows_fails_at_once(tmp_path):
    started = time.monotonic()
    with pytest.raises(Failure, match="cannot be reached") as failure:
        download("https://nowhere.invalid/corpus.zip", tmp_path / "file")
    assert failure.value.exit_code == ExitCode.UNREACHABLE
    assert time.monotonic() - started < 5


def test_a_port_where_nobody_listens_is_unreachable(tmp_path):
    with serving(Site(CONTENT)) as site:
        url = site.url
    with pytest.raises(Failure, match="cannot be reached"):
        download(url, tmp_path / "file", wait=wait_none())


class TestArchives:
    """The whole path from an address to a corpus."""

    @pytest.fixture
    def archive(self, texts) -> bytes:
        return zip_of({f"texts/{split}.txt": text for split, text in texts.items()})

    def corpus(self, site, tmp_path, **settings):
        store = open_store(str(tmp_path / "store"))
        return fetch_corpus(DownloadSettings(corpus=site.url, **settings), tmp_path / "out", store)

    def test_the_same_bytes_have_the_same_digest_as_from_a_folder(self, archive, own_folder, tmp_path):
        with serving(Site(archive)) as site:
            from_web = self.corpus(site, tmp_path).metadata
        store = open_store(str(tmp_path / "store"))
        from_folder = fetch_corpus(DownloadSettings(corpus=str(own_folder)), tmp_path / "other", store).metadata
        assert from_web["dataset_digest"] == from_folder["dataset_digest"]
        assert from_web["source"] == site.url

    def test_a_pinned_archive_is_fetched_once(self, archive, tmp_path):
        digest = hashlib.sha256(archive).hexdigest()
        with serving(Site(archive)) as site:
            first = self.corpus(site, tmp_path, sha256=digest)
            again = self.corpus(site, tmp_path, sha256=digest)
        assert len(site.ranges) == 1
        assert again == first

    def test_another_sha256_is_refused_and_nothing_is_left(self, archive, tmp_path):
        with serving(Site(archive)) as site, pytest.raises(Failure, match=r"The archive has sha256 .*, expected 000"):
            self.corpus(site, tmp_path, sha256="0" * 64)
        assert not list(tmp_path.iterdir())

    def test_a_page_instead_of_an_archive_is_refused_and_nothing_is_left(self, tmp_path):
        with serving(Site(b"<html>Sign in</html>")) as site, pytest.raises(Failure, match="HTML") as failure:
            self.corpus(site, tmp_path)
        assert failure.value.where == site.url
        assert not list(tmp_path.iterdir())
