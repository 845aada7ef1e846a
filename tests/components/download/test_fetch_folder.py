"""A corpus in a local folder is read byte for byte, or refused in one sentence without leaving files."""

import hashlib
import shutil
import subprocess
import sys

import pytest

from components.download.corpora import RAW, TOKENS
from components.download.fetch import fetch_corpus
from components.download.settings import DownloadSettings
from components.shared.base.failure import Failure
from components.shared.storage.manifest import digest_of, read_manifest
from components.shared.storage.store import open_store
from tests.components.download.conftest import zip_of
from tests.components.download.server import Site, serving


@pytest.fixture
def fetch(tmp_path):
    """Fetches into `out`; returns the manifest as a later step reads it."""

    def fetch(corpus, **settings):
        store = open_store(str(tmp_path / "store"))
        fetch_corpus(DownloadSettings(corpus=str(corpus), **settings), tmp_path / "out", store)
        return read_manifest(tmp_path / "out", "corpus")

    return fetch


def test_a_team_s_own_text_arrives_as_it_is(fetch, own_folder, texts, tmp_path):
    manifest = fetch(own_folder)
    for split, text in texts.items():
        assert (tmp_path / "out" / f"{split}.txt").read_bytes() == text
    digests = {split: hashlib.sha256(text).hexdigest() for split, text in texts.items()}
    assert manifest.metadata["dataset_digest"] == digest_of(digests)
    assert manifest.metadata["model_name"] == "wikigpt-harbour-texts"
    assert not manifest.metadata["published"]


def test_the_name_given_names_the_models(fetch, own_folder):
    assert fetch(own_folder, name="ours").metadata["model_name"] == "wikigpt-ours"


def test_the_digest_depends_on_bytes_and_roles_alone(fetch, own_folder, tmp_path):
    first = fetch(own_folder).metadata["dataset_digest"]
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(own_folder, elsewhere)
    assert fetch(elsewhere).metadata["dataset_digest"] == first
    (elsewhere / "test.txt").rename(elsewhere / "spare")
    (elsewhere / "validation.txt").rename(elsewhere / "test.txt")
    (elsewhere / "spare").rename(elsewhere / "validation.txt")
    assert fetch(elsewhere).metadata["dataset_digest"] != first


def test_real_wikitext_is_known_by_its_bytes(fetch, real_data):
    facts = fetch(real_data / "wikitext-2").metadata
    assert facts["published"]
    assert (facts["name"], facts["model_name"]) == ("wikitext-2-v1", "wikigpt-wikitext-2-v1")
    assert facts["dataset_digest"] == TOKENS.dataset_digest
    assert facts["licence"] == "CC BY-SA 3.0"
    assert "Merity" in facts["attribution"]


def test_real_wikitext_under_other_file_names_is_the_same_corpus(fetch, real_data, tmp_path):
    folder = tmp_path / "renamed"
    folder.mkdir()
    for split, released in {"train": "train", "validation": "valid", "test": "test"}.items():
        shutil.copyfile(real_data / "wikitext-2" / f"wiki.{released}.tokens", folder / f"{split}.txt")
    assert fetch(folder).metadata["model_name"] == "wikigpt-wikitext-2-v1"


def test_the_published_digests_are_those_of_the_real_files(real_data):
    for split, released in {"validation": "valid", "test": "test"}.items():
        data = (real_data / "wikitext-2-raw" / f"wiki.{released}.raw").read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (RAW.files[split].size, RAW.files[split].sha256)


def _remove_a_split(folder):
    (folder / "test.txt").unlink()


def _empty_a_split(folder):
    (folder / "validation.txt").write_bytes(b" \n \n")


def _write_latin_1(folder):
    (folder / "train.txt").write_bytes(" \n = Café = \n".encode("latin-1"))


def _write_nul(folder):
    (folder / "test.txt").write_bytes(b" \n = T = \n \n a\0b \n")


def _use_wikitext_s_names(folder):
    for split, released in {"train": "train", "validation": "valid", "test": "test"}.items():
        (folder / f"{split}.txt").rename(folder / f"wiki.{released}.tokens")


def _add_another_corpus(folder):
    for released in ("train", "valid", "test"):
        (folder / f"wiki.{released}.raw").write_bytes(b"other words \n")


def _empty_the_folder(folder):
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (shutil.rmtree, "There is no such folder"),
        (_empty_the_folder, "holds no corpus"),
        (_remove_a_split, "lacks a split: there is no test.txt"),
        (_add_another_corpus, r"holds more than one corpus: one with wiki\.train\.raw and one with train\.txt"),
        (_empty_a_split, "The validation split is empty"),
        (_write_latin_1, r"The train split is not UTF-8: byte 0xe9 in line 2"),
        (_write_nul, "The test split holds a NUL byte in line 4"),
        (_use_wikitext_s_names, r"have WikiText's names but other bytes: wiki.train.tokens has \d+ bytes"),
    ],
)
def test_a_wrong_folder_is_refused_in_one_sentence(fetch, own_folder, tmp_path, spoil, what):
    spoil(own_folder)
    with pytest.raises(Failure, match=what) as failure:
        fetch(own_folder)
    assert "harbour-texts" in failure.value.where
    assert failure.value.remedy
    assert [path.name for path in tmp_path.iterdir() if path.name != own_folder.name] in ([], ["store"])


def test_a_file_is_no_folder(fetch, own_folder):
    with pytest.raises(Failure, match="a file where a folder was expected"):
        fetch(own_folder / "train.txt")


def test_a_folder_called_as_a_corpus_of_the_project_needs_a_name(fetch, own_folder):
    folder = own_folder.rename(own_folder.parent / "wikitext-2-raw-v1")
    with pytest.raises(Failure, match=r"is reserved for a corpus of the project") as failure:
        fetch(folder)
    assert "download.name" in failure.value.remedy
    assert fetch(folder, name="ours").metadata["name"] == "ours"


def test_a_wrong_corpus_leaves_the_one_before_it(fetch, own_folder, tmp_path, texts):
    fetch(own_folder)
    _write_nul(own_folder)
    with pytest.raises(Failure):
        fetch(own_folder)
    assert (tmp_path / "out" / "test.txt").read_bytes() == texts["test"]
    read_manifest(tmp_path / "out", "corpus")


def test_a_folder_that_cannot_be_written_is_named(own_folder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Failure, match="Could not write") as failure:
        fetch_corpus(
            DownloadSettings(corpus=str(own_folder)), tmp_path / "file" / "out", open_store(str(tmp_path / "store"))
        )
    assert str(tmp_path / "file") in failure.value.where


FULL_DISK = """
import resource, sys
from pathlib import Path
from components.download.fetch import fetch_corpus
from components.download.settings import DownloadSettings
from components.shared.base.failure import Failure
from components.shared.storage.store import open_store
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    fetch_corpus(DownloadSettings(corpus=sys.argv[1]), Path(sys.argv[2]), open_store(sys.argv[3]))
except Failure as failure:
    sys.exit(str(failure))
"""


@pytest.mark.parametrize("packed", [False, True])
def test_a_full_disk_is_reported_and_no_file_is_left(own_folder, tmp_path, packed):
    """A limit on the size of files simulates a full disk: in both cases the write raises an OSError."""
    (own_folder / "train.txt").write_bytes(b"words and words \n" * 10_000)
    archive = zip_of({path.name: path.read_bytes() for path in own_folder.iterdir()})
    with serving(Site(archive)) as site:
        corpus = site.url if packed else str(own_folder)
        arguments = [sys.executable, "-c", FULL_DISK, corpus, str(tmp_path / "out"), str(tmp_path / "store")]
        ended = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "Could not write: File too large" in ended.stderr
    assert "free some space" in ended.stderr
    assert [path for path in tmp_path.iterdir() if path != own_folder] == []
