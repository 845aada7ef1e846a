"""The names of models: they keep the letters of the corpus, and two texts share a name only if a person says so."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest
from mlflow import MlflowClient

from components.download.naming import LONGEST, is_name, name_from
from components.download.run import run
from components.download.settings import DownloadSettings
from components.shared.base.failure import Failure
from components.shared.runtime.settings import parse_section
from components.shared.storage.manifest import read_manifest
from components.shared.tracking import registry
from tests.components.download.conftest import own_folder, step  # noqa: F401
from tests.texts.corpora import wikitext, write

KEPT = {
    "/srv/texts/harbour": "harbour",
    "/srv/texts/My Texts": "my-texts",
    "/srv/texts/v1.2_final": "v1.2_final",
    "/srv/语料一": "语料一",
    "/srv/语料二": "语料二",
    "/srv/корпус": "корпус",
    "/srv/คลังข้อความ": "คลังข้อความ",
    "/srv/संग्रह": "संग्रह",
    "/srv/Ελληνικά": "ελληνικά",
    "/srv/e\u0301te\u0301": "été",
    "s3://bucket/语料": "语料",
    "s3://bucket": "bucket",
    "s3://bucket/texts/": "texts",
    "https://host/corpora/Harbour.tar.gz?token=x#y": "harbour",
    "https://host/%E8%AF%AD%E6%96%99.zip": "语料",
}
# Groups of addresses that lose a part; within a group, each has a different name.
LOST = [
    ["/srv/📚", "/srv/🗄", "/srv/!!!", "/srv/???"],
    ["/srv/data📚", "/srv/data🗄", "/srv/data"],
    ["/srv/c++", "/srv/c#", "/srv/c"],
    ["s3://b/hash#1", "s3://b/hash#2", "s3://b/hash"],
    ["/srv/" + "x" * 200, "/srv/" + "x" * 201, "/srv/" + "语" * 80, "/srv/" + "语" * 81],
    ["https://one.example/", "https://two.example/", "/"],
    ["/srv/a:b", "/srv/a'b", '/srv/a"b', "/srv/a%b"],
    ["/srv/with\u200cjoiner", "/srv/with\u200djoiner"],
]


@pytest.mark.parametrize(("address", "name"), KEPT.items())
def test_letters_of_any_script_stay(address, name):
    assert name_from(address) == name
    assert is_name(name)


@pytest.mark.parametrize("addresses", LOST)
def test_names_that_lose_characters_are_distinguished_by_a_digest(addresses):
    names = [name_from(address) for address in addresses]
    assert len(set(names)) == len(names)
    for name in names:
        assert is_name(name), name
        assert len(name) <= LONGEST and len(f"wikigpt-{name}".encode()) < 200


def test_every_name_that_is_made_can_be_given():
    """`wikigpt mirror` names the setting that keeps a name."""
    for number in range(0, 0x3100, 7):
        letter = chr(number)
        if letter != "/":
            name = name_from(f"/srv/a{letter}b")
            assert DownloadSettings(corpus="/srv/x", name=name).name == name == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize("name", ["Harbour", "a/b", "a:b", "-a", "", "a b", "x" * 62, "e\u0301", "a'b", "语" * 61])
def test_a_name_that_cannot_be_one_is_refused(name):
    with pytest.raises(Failure, match=r"download\.name"):
        parse_section(DownloadSettings, {"corpus": "/srv/x", "name": name}, "download")


@pytest.mark.parametrize("name", ["wikigpt-语料一", "wikigpt-корпус", "wikigpt-คลังข้อความ", "wikigpt-été"])
def test_the_registry_takes_them(tracking_uri, name):
    client = MlflowClient(tracking_uri)
    client.create_registered_model(name)
    version = client.create_model_version(name, "file:///nowhere", tags={registry.WEIGHTS_DIGEST: "w" * 64})
    client.set_registered_model_alias(name, registry.CHAMPION, version.version)
    assert [str(found.version) for found in registry.versions(client, name)] == ["1"]
    assert registry.version_of(client, name, "w" * 64).name == name
    assert registry.version_with_alias(client, name, registry.CHAMPION).name == name


class Corpora:
    """Runs the step on texts at addresses, and registers a version for each name."""

    def __init__(self, step, root):  # noqa: F811
        self.step, self.root, self.count = step, root, 0

    def write(self, path: str, seed: int) -> str:
        return str(write(self.root / path, wikitext(seed)))

    def name(self, corpus: str, *, register: bool = True, **settings: str) -> str:
        self.count += 1
        here = self.step(run=f"run-{self.count}", corpus=corpus, **settings)
        run(here, self.root / "out")
        metadata = read_manifest(self.root / "out", "corpus").metadata
        if register:
            client = here.tracking.client
            if not client.search_registered_models(f"name='{metadata['model_name']}'"):
                client.create_registered_model(metadata["model_name"])
            tags = {
                registry.DATASET_DIGEST: metadata["dataset_digest"],
                registry.CORPUS_SOURCE: metadata["source"],
                registry.REUSE_KEY: "0" * 32,
            }
            client.create_model_version(metadata["model_name"], "file:///nowhere", tags=tags)
        return metadata["model_name"]


@pytest.fixture
def corpora(step, tmp_path) -> Corpora:  # noqa: F811
    return Corpora(step, tmp_path)


def test_two_texts_whose_folders_have_one_name_get_two(corpora, capsys):
    first, second = corpora.write("a/data", 1), corpora.write("b/data", 2)
    assert corpora.name(first) == "wikigpt-data"
    capsys.readouterr()
    other = corpora.name(second)
    assert re.fullmatch("wikigpt-data-[0-9a-f]{8}", other)
    notes = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"event": "note"')]
    assert (
        f"The models of {first} are called wikigpt-data, so those of this text are called {other}" in notes[0]["text"]
    )
    assert corpora.name(second) == other, "and it stays so"
    assert corpora.name(first) == "wikigpt-data"


def test_a_text_that_changes_at_its_address_keeps_its_name(corpora):
    assert corpora.name(corpora.write("a/data", 1)) == "wikigpt-data"
    assert corpora.name(corpora.write("a/data", 2)) == "wikigpt-data"


def test_a_text_that_moves_keeps_its_name(corpora):
    assert corpora.name(corpora.write("a/data", 1)) == "wikigpt-data"
    assert corpora.name(corpora.write("b/data", 1)) == "wikigpt-data"


def test_a_name_that_a_person_gives_is_taken_as_it_is(corpora):
    assert corpora.name(corpora.write("a/data", 1)) == "wikigpt-data"
    assert corpora.name(corpora.write("b/data", 2), name="data") == "wikigpt-data"
    assert corpora.name(corpora.write("b/data", 3)) == "wikigpt-data", "its address is known by now"


def test_versions_of_before_there_was_a_tag_are_ours(corpora, step):  # noqa: F811
    client = step().tracking.client
    client.create_registered_model("wikigpt-data")
    client.create_model_version("wikigpt-data", "file:///nowhere", tags={registry.DATASET_DIGEST: "d" * 64})
    assert corpora.name(corpora.write("a/data", 1)) == "wikigpt-data"
