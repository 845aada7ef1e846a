"""Signatures of a folder and of a statement, by the library's own programs too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.shared.signing.bundle import Refused, sign_folder, sign_statement, verified_statement, verify_folder
from components.shared.signing.keys import open_signing_key, read_public_key
from tests.signing import make_keys

KIND = "https://slsa.dev/provenance/v1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model" / "inner").mkdir(parents=True)
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "inner" / "weights").write_bytes(bytes(100))
    return tmp_path / "model"


def test_a_folder_verifies_with_what_an_export_adds_and_with_nothing_else(folder: Path, tmp_path: Path) -> None:
    private, public = make_keys(tmp_path)
    key, signature = read_public_key(public), folder / "model.sig"
    sign_folder(open_signing_key(str(private)), folder, signature)
    (folder / "README.md").write_text("card")
    verify_folder(key, folder, signature)
    for name in (".gitattributes", "inner/README.md", "more"):
        (folder / name).write_text("")
        with pytest.raises(Refused):
            verify_folder(key, folder, signature)
        (folder / name).unlink()
    with pytest.raises(Refused):
        verify_folder(read_public_key(make_keys(tmp_path, "other")[1]), folder, signature)


def test_the_public_interface_of_model_signing_verifies_it_without_further_settings(
    folder: Path, tmp_path: Path
) -> None:
    from model_signing.verifying import Config

    private, public = make_keys(tmp_path)
    sign_folder(open_signing_key(str(private)), folder, folder / "model.sig")
    (folder / "README.md").write_text("card")
    Config().use_elliptic_key_verifier(public_key=public).verify(folder, folder / "model.sig")


def test_a_statement_is_read_back_by_its_key_and_kind(tmp_path: Path) -> None:
    private, public = make_keys(tmp_path)
    predicate, path = {"buildDefinition": {"buildType": "urn:x", "numbers": "1"}}, tmp_path / "provenance.sig"
    sign_statement(open_signing_key(str(private)), {"b": "1" * 64, "a": "0" * 64}, KIND, predicate, path)
    statement = verified_statement(read_public_key(public), KIND, path)
    assert statement["predicate"] == predicate
    assert [each["name"] for each in statement["subject"]] == ["a", "b"]
    with pytest.raises(Refused, match=r"it is about https://slsa\.dev/provenance/v1"):
        verified_statement(read_public_key(public), "https://slsa.dev/provenance/v2", path)
    with pytest.raises(Refused):
        verified_statement(read_public_key(make_keys(tmp_path, "other")[1]), KIND, path)


def test_a_signature_of_a_folder_is_no_provenance(folder: Path, tmp_path: Path) -> None:
    private, public = make_keys(tmp_path)
    sign_folder(open_signing_key(str(private)), folder, tmp_path / "model.sig")
    with pytest.raises(Refused, match="it is about https://model_signing/signature"):
        verified_statement(read_public_key(public), KIND, tmp_path / "model.sig")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"verificationMaterial": {}}', "\0", '{"dsseEnvelope": 1}'])
def test_what_is_no_signature_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "s").write_text(content)
    with pytest.raises(Refused):
        verified_statement(read_public_key(make_keys(tmp_path)[1]), KIND, tmp_path / "s")


def test_the_signatures_are_bundles_with_a_dsse_envelope(folder: Path, tmp_path: Path) -> None:
    sign_folder(open_signing_key(str(make_keys(tmp_path)[0])), folder, tmp_path / "model.sig")
    bundle = json.loads((tmp_path / "model.sig").read_text())
    assert bundle["mediaType"].startswith("application/vnd.dev.sigstore.bundle")
    assert bundle["dsseEnvelope"]["payloadType"] == "application/vnd.in-toto+json"
