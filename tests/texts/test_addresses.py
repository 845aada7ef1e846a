"""The recorded form of an address identifies the text: query, fragment and unusual keys stay, credentials do not."""

from __future__ import annotations

import boto3
import pytest

from components.download.address import identity_of
from components.download.fetch import fetch_corpus
from components.download.run import run
from components.download.settings import DownloadSettings
from components.shared.runtime.secrets import move_out_secrets
from components.shared.storage.store import open_store
from components.shared.tracking import registry
from tests.components.download.conftest import own_folder, step, zip_of  # noqa: F401
from tests.components.download.server import Site, serving
from tests.texts.corpora import wikitext

SIGNED = "X-Amz-Date=20261127T070000Z&X-Amz-Signature=0123456789abcdef&X-Amz-Credential=AKIA"


def archive() -> bytes:
    return zip_of({f"{split}.txt": text.encode() for split, text in wikitext().items()})


@pytest.mark.parametrize("key", ["hash#1", "what?v=2", "per%20cent", "a blank", "语料", "plus+&=", "quote's"])
def test_a_key_of_a_bucket_is_fetched_and_recorded_as_it_is(s3_emulator, monkeypatch, tmp_path, key):
    address, env = s3_emulator
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    # The object that another parsing of the key would find.
    for folder in (key, "hash", "what", "per cent", "a%20blank", "plus "):
        for split, text in wikitext(seed=1 if folder == key else 2).items():
            boto3.client("s3").put_object(Bucket=bucket, Key=f"{prefix}/{folder}/{split}.txt", Body=text.encode())
    store = open_store(str(tmp_path / "store"))
    manifest = fetch_corpus(DownloadSettings(corpus=f"{address}/{key}"), tmp_path / "out", store)
    assert (tmp_path / "out" / "test.txt").read_bytes() == wikitext(seed=1)["test"].encode()
    assert manifest.metadata["source"] == f"{address}/{key}"


def test_a_query_and_a_fragment_are_recorded_and_a_token_is_not(step, tmp_path, monkeypatch):  # noqa: F811
    """As in a run: the settings only refer to an address with a credential."""
    with serving(Site(archive())) as site:
        address = f"{site.url}/get?file=harbour.zip&version=7&token=abcdef0123456789#texts"
        shown = f"{site.url}/get?file=harbour.zip&version=7&token=[redacted]#texts"
        travelling, secrets = move_out_secrets({"download": {"corpus": address}})
        for name, value in secrets.items():
            monkeypatch.setenv(name, value)
        here = step(**travelling["download"])
        assert "token" not in here.settings["download"]["corpus"]
        run(here, tmp_path / "corpus")
    recorded = here.tracking.client.get_run(here.tracking.run_id).data
    assert recorded.tags[registry.CORPUS_SOURCE] == shown
    assert recorded.params["download.corpus"] == shown


@pytest.mark.parametrize(
    ("address", "identity"),
    [
        ("https://host/get?id=1#a", "https://host/get?id=1#a"),
        (f"https://b.s3.example/texts.zip?versionId=7&{SIGNED}", "https://b.s3.example/texts.zip?versionId=7"),
        (f"https://b.s3.example/texts.zip?{SIGNED}", "https://b.s3.example/texts.zip"),
        ("https://a.example/c/t.zip?sv=2024&se=2026-01-01&sr=b&sp=r&sig=abc", "https://a.example/c/t.zip"),
        ("https://host/get?sr=b&id=1", "https://host/get?sr=b&id=1"),
        ("https://host/t.zip?Expires=17&Signature=x&Key-Pair-Id=K&id=3", "https://host/t.zip?id=3"),
        ("s3://bucket/key?Expires=17#1", "s3://bucket/key?Expires=17#1"),
        ("/srv/texts#1?a=b", "/srv/texts#1?a=b"),
    ],
)
def test_what_signs_an_address_is_no_part_of_its_identity(address, identity):
    assert identity_of(address) == identity
