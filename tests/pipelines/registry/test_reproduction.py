"""The lineage of a version, by which it is reproduced."""

from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.shared.base.failure import Failure
from components.shared.reuse.keys import request_of
from components.shared.runtime.step import Step
from components.shared.storage.manifest import digest_of, read_manifest, write_manifest
from components.shared.storage.store import Store, open_store
from components.shared.tracking import registry
from components.shared.tracking.run import loggable_settings
from pipelines.local.home import open_home
from pipelines.local.reproduction import check_reproducible, compare, copy_inputs, lineage_of
from pipelines.registry.references import resolve
from tests.registry import EVALUATION, TEXT, Folders, change_weights, make_folders, register

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
    monkeypatch.setattr("components.shared.reuse.keys.code_digest", lambda result: "code")
    request = request_of(digest_of({"train": TEXT}), SETTINGS)
    folders = make_folders(tmp_path / "a", hugging_face_folder, reuse_key=request.model_key)
    metadata = read_manifest(folders.model, "model").metadata
    write_manifest(folders.model, "model", {**metadata, "identity": {**request.key_parts, "tokenizer": "t"}})
    register(step := Step("register", "run-1", SETTINGS), folders)
    client.log_dict(step.tracking.run_id, loggable_settings(SETTINGS), registry.SETTINGS_FILE)  # as `download` does
    return folders


def test_the_settings_come_back_without_secrets_and_are_reproducible(client: MlflowClient, made: Folders) -> None:
    lineage = lineage_of(client, resolve(client, "champion"))
    check_reproducible(client, lineage)
    expected = {name: values for name, values in SETTINGS.items() if name != "notify"}
    shown = "https://[redacted]@example.org/text.zip?token=[redacted]"
    assert lineage.settings == expected | {"download": {"corpus": shown}}
    assert (lineage.commit, lineage.reuse_key, lineage.numerics) == ("c0ffee", made.reuse_key, {"device": "cpu"})


def test_equal_weights_are_identical_and_others_are_not(client: MlflowClient, made: Folders) -> None:
    lineage = lineage_of(client, resolve(client, "champion"))
    assert compare(lineage, read_manifest(made.model, "model")).identical
    change_weights(made.model, 1)
    metadata = {"reuse_key": made.reuse_key, "numerics": {"device": "cpu"}}
    alike = compare(lineage, write_manifest(made.model, "model", metadata))
    assert not alike.identical
    assert "with the same settings, code, versions and numerics" in alike.sentence
    other = compare(lineage, write_manifest(made.model, "model", {**metadata, "numerics": {"device": "NVIDIA T4"}}))
    assert "numerics differ: device: 'cpu' then, 'NVIDIA T4' now" in other.sentence


def test_a_training_that_was_resumed_elsewhere_proves_nothing(client: MlflowClient, made: Folders) -> None:
    lineage = lineage_of(client, resolve(client, "champion"))
    model = read_manifest(made.model, "model")
    with pytest.raises(Failure, match="resumed with other numerics than it started with"):
        compare(lineage, replace(model, metadata={**model.metadata, "numerics_changed": True}))


def test_another_corpus_at_the_same_address_is_not_blamed_on_hardware(client: MlflowClient, made: Folders) -> None:
    lineage = lineage_of(client, resolve(client, "champion"))
    model = read_manifest(made.model, "model")
    other = replace(model, metadata={**model.metadata, "reuse_key": "0" * 32})
    with pytest.raises(Failure, match="is not what it was when version 1 was made"):
        compare(lineage, other)


def test_other_code_is_refused_and_the_commit_named(
    client: MlflowClient, made: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    lineage = lineage_of(client, resolve(client, "champion"))
    monkeypatch.setattr("components.shared.reuse.keys.code_digest", lambda result: "edited")
    with pytest.raises(Failure, match=r"code.tokens: 'code' then, 'edited' now.*check out commit c0ffee"):
        check_reproducible(client, lineage)


def test_a_version_of_another_schema_has_no_lineage_here(client: MlflowClient, made: Folders) -> None:
    client.set_model_version_tag("wikigpt-sample", "1", "wikigpt.schema", "1")
    with pytest.raises(Failure, match=r"lineage has schema '1', this wikigpt reads '2'.*check out commit c0ffee"):
        lineage_of(client, resolve(client, "champion"))


def test_a_reproduction_is_lent_ingredients_and_nothing_that_was_made(
    client: MlflowClient, made: Folders, tmp_path: Path
) -> None:
    lineage = lineage_of(client, resolve(client, "champion"))
    store, own = open_store(str(tmp_path / "store")), open_home(tmp_path / "own")
    publish(store, tmp_path / "x", "corpus", lineage.dataset_digest)
    publish(store, tmp_path / "y", "pretrained", "openai-community/gpt2@607a/weights")
    publish(store, tmp_path / "z", "pretrained", "openai-community/gpt2-large@1234/weights")
    publish(store, tmp_path / "m", "model", lineage.weights_digest)
    before = listing(store)
    settings = {**lineage.settings, "train": {"pretrained": "openai-community/gpt2"}}

    taken = copy_inputs(store, own, replace(lineage, settings=settings | {"download": {"corpus": "wikitext-2-v1"}}))
    assert taken["download"] == {"corpus": "wikitext-2-v1"}
    assert sorted(name for name in listing(open_store(str(own.store))) if not name.startswith("blobs/")) == [
        f"manifests/corpus/{lineage.dataset_digest}.json",
        "manifests/pretrained/openai-community/gpt2@607a/weights.json",
    ]
    archive = {"corpus": "https://[redacted]@example.org/text.zip", "sha256": "a" * 64, "name": "ours"}
    taken = copy_inputs(store, own, replace(lineage, settings=settings | {"download": archive}))
    assert taken["download"] == {"corpus": str(own.root / "corpus"), "sha256": None, "name": "ours"}
    assert (own.root / "corpus" / "content").is_file()
    other = replace(lineage, settings=settings | {"download": archive}, dataset_digest="0" * 64)
    assert copy_inputs(store, own, other)["download"] == archive, "the store has no such text"
    assert listing(store) == before


def publish(store: Store, folder: Path, kind: str, name: str) -> None:
    folder.mkdir()
    (folder / "content").write_text(f"{kind} {name}")
    write_manifest(folder, kind)
    store.publish(folder, kind, name)


def listing(store: Store) -> dict[str, float]:
    return {entry.key: entry.changed for entry in store.objects.entries("")}


def test_settings_that_are_gone_are_said_to_be(client: MlflowClient, made: Folders, tmp_path: Path) -> None:
    for path in (tmp_path / "mlartifacts").rglob("settings.json"):
        path.unlink()
    with pytest.raises(Failure, match="The settings of the run cannot be read"):
        lineage_of(client, resolve(client, "champion"))
