"""Lineage back from a version to what makes it again."""

from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.shared.failure import Failure
from components.shared.fingerprint import fingerprint, identity
from components.shared.step import Step
from components.shared.storage.manifest import digest_of, read_manifest, write_manifest
from pipelines.registry.references import resolve
from pipelines.registry.reproduction import check_reproducible, compare, lineage_of
from tests.registry import EVALUATION, TEXT, Folders, make_folders, register

SETTINGS = {
    "register": {},
    "evaluate": EVALUATION,
    "tokenize": {"vocab_size": 300},
    "train": {"steps": 10},
    "download": {"corpus": "https://user:secret@example.org/text.zip?token=secret"},
    "notify": {"webhook": "https://hooks.example.org/secret"},
}


@pytest.fixture
def made(client: MlflowClient, hugging_face_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("WIKIGPT_COMMIT", "c0ffee")
    monkeypatch.setattr("components.shared.fingerprint.source_digest", lambda: "code")
    parts = identity(digest_of({"train": TEXT}), SETTINGS)
    folders = make_folders(tmp_path / "a", hugging_face_folder, fingerprint=fingerprint(parts))
    facts = read_manifest(folders.model, "model").facts
    write_manifest(folders.model, "model", {**facts, "identity": {**parts, "tokenizer": "t"}})
    register(Step("register", "night-1", SETTINGS), folders)
    return folders


def test_the_settings_come_back_without_secrets_and_are_reproducible(client: MlflowClient, made: Folders) -> None:
    lineage = lineage_of(client, resolve(client, "champion"))
    check_reproducible(client, lineage)
    expected = {name: values for name, values in SETTINGS.items() if name != "notify"}
    assert lineage.settings == expected | {"download": {"corpus": "https://example.org/text.zip"}}
    assert (lineage.commit, lineage.fingerprint) == ("c0ffee", made.fingerprint)


def test_equal_weights_are_identical_and_others_are_not(client: MlflowClient, made: Folders) -> None:
    lineage = lineage_of(client, resolve(client, "champion"))
    assert compare(lineage, read_manifest(made.model, "model")).identical
    weights = made.model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    facts = {"fingerprint": made.fingerprint}
    other = compare(lineage, write_manifest(made.model, "model", facts))
    assert not other.identical
    assert "differ in numerics" in other.sentence


def test_another_corpus_at_the_same_address_is_no_matter_of_hardware(client: MlflowClient, made: Folders) -> None:
    lineage = lineage_of(client, resolve(client, "champion"))
    model = read_manifest(made.model, "model")
    other = replace(model, facts={**model.facts, "fingerprint": "0" * 32})
    with pytest.raises(Failure, match="is not what it was when version 1 was made"):
        compare(lineage, other)


def test_other_code_is_refused_and_the_commit_named(
    client: MlflowClient, made: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    lineage = lineage_of(client, resolve(client, "champion"))
    monkeypatch.setattr("components.shared.fingerprint.source_digest", lambda: "edited")
    with pytest.raises(Failure, match=r"source: 'code' then, 'edited' now .*check out commit c0ffee"):
        check_reproducible(client, lineage)


def test_a_version_of_another_schema_has_no_lineage_here(client: MlflowClient, made: Folders) -> None:
    client.set_model_version_tag("wikigpt-sample", "1", "wikigpt.schema", "0")
    with pytest.raises(Failure, match="lineage has schema '0', this wikigpt reads '1'"):
        lineage_of(client, resolve(client, "champion"))


def test_settings_that_are_gone_are_said_to_be(client: MlflowClient, made: Folders, tmp_path: Path) -> None:
    for path in (tmp_path / "mlartifacts").rglob("settings.json"):
        path.unlink()
    with pytest.raises(Failure, match="The settings of the run are gone"):
        lineage_of(client, resolve(client, "champion"))
