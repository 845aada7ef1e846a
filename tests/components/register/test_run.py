"""The step as a whole, on real MLflow."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.shared.base.failure import Failure
from components.shared.tracking import registry
from components.shared.tracking.champion_moves import champion_state
from tests.registry import another_model, make_folders, make_step, register

NAME = "wikigpt-sample"


@pytest.fixture
def client(tracking_uri: str) -> MlflowClient:
    return MlflowClient(tracking_uri)


def test_the_first_model_is_registered_with_lineage_and_becomes_champion(
    client: MlflowClient, hugging_face_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIKIGPT_COMMIT", "c0ffee")
    step = make_step("run-1")
    client.set_terminated(step.tracking.run_id, "FINISHED")
    folders = make_folders(tmp_path / "a", hugging_face_folder, reuse_key="f" * 32)

    version = register(step, folders)

    found = client.get_model_version(NAME, version)
    assert (version, found.status, found.run_id) == ("1", "READY", step.tracking.run_id)
    assert found.tags["wikigpt.reuse_key"] == "f" * 32
    assert found.tags["wikigpt.commit"] == "c0ffee"
    assert found.tags["wikigpt.pipeline_run"] == "run-1"
    assert found.tags["wikigpt.evaluation_key"] == "e" * 16
    assert float(found.tags["wikigpt.test.word_perplexity"]) == pytest.approx(math.exp(6.0), rel=1e-6)
    assert found.tags["wikigpt.verdict"] == "promote"
    assert client.get_model_version_by_alias(NAME, "champion").version == found.version
    run = client.get_run(step.tracking.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["wikigpt.model_version"] == f"{NAME}/1"
    model_id = found.source.removeprefix("models:/")
    assert [output.model_id for output in run.outputs.model_outputs] == [model_id]
    metrics = {metric.key: metric.value for metric in client.get_logged_model(model_id).metrics}
    assert metrics["test_word_perplexity"] == pytest.approx(math.exp(6.0))
    (dataset,) = {
        (metric.dataset_name, metric.dataset_digest)
        for metric in client.get_logged_model(model_id).metrics
        if metric.key == "test_word_perplexity"
    }
    digest = client.get_model_version(NAME, "1").tags[registry.DATASET_DIGEST]
    assert dataset == ("sample/test", digest[:36])
    assert registry.evaluation_of(client, found) == json.loads((folders.evaluation / "evaluation.json").read_text())


@pytest.mark.slow
def test_a_click_of_no_promoter_is_reported_and_the_gate_compares_with_the_approved_champion(
    tracking_uri: str, hugging_face_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIKIGPT_PROMOTERS", "ada")
    client = MlflowClient(tracking_uri)
    first = make_folders(tmp_path / "a", hugging_face_folder, reuse_key="1" * 32, nll_per_word=5.0)
    register(make_step("run-1"), first)
    register(make_step("run-2"), another_model(first, tmp_path / "b", "2" * 32, 6.0))
    client.set_registered_model_alias(NAME, "champion", "2")
    step = make_step("run-3")
    register(step, another_model(first, tmp_path / "c", "3" * 32, 5.5))
    assert "a promoter confirms it by `wikigpt promote 2`" in step.findings["champion_refused"]
    assert client.get_model_version(NAME, "3").tags["wikigpt.verdict"] == "keep", "version 1 is better, 2 is not"
    assert champion_state(client, NAME).holder == "2", "nobody undoes the click"
    better = make_step("run-4")
    register(better, another_model(first, tmp_path / "d", "4" * 32, 4.0))
    assert better.findings["champion_refused"] is None
    assert champion_state(client, NAME).holder == "4"


def test_the_registered_model_loads_by_its_alias_and_keeps_its_signature(
    tracking_uri: str, hugging_face_folder: Path, tmp_path: Path
) -> None:
    import mlflow

    register(make_step("run-1"), make_folders(tmp_path / "a", hugging_face_folder, reuse_key="f" * 32))

    info = mlflow.models.get_model_info(f"models:/{NAME}@champion")
    assert {param.name: param.default for param in info.signature.params} == {
        "max_new_tokens": 40,
        "do_sample": False,
        "temperature": 1.0,
        "top_k": 50,
        "top_p": 1.0,
    }
    generate = mlflow.transformers.load_model(f"models:/{NAME}@champion")
    assert generate("The castle", max_new_tokens=3)[0]["generated_text"].startswith("The castle")


def test_the_card_says_what_a_person_needs_to_decide(
    client: MlflowClient, hugging_face_folder: Path, tmp_path: Path
) -> None:
    first = make_folders(tmp_path / "a", hugging_face_folder, reuse_key="1" * 32, nll_per_word=5.0)
    register(make_step("run-1"), first)
    register(make_step("run-2"), another_model(first, tmp_path / "b", "2" * 32, 6.0))

    card = client.get_model_version(NAME, "2").description
    assert card.startswith("# wikigpt-sample version 2\n\n**keep**: ")
    assert "champion (version 1)" in card
    assert "| test, word perplexity | 403.43 | 148.41 |" in card
    assert "CC BY-SA 3.0" in card
    assert r"was built \* in \<b>stone\</b>" in card
    assert "wikigpt rollback" in card
    assert "models:/wikigpt-sample/2" in card


def test_every_model_is_registered_and_a_worse_one_is_challenger(
    client: MlflowClient, hugging_face_folder: Path, tmp_path: Path
) -> None:
    first = make_folders(tmp_path / "a", hugging_face_folder, reuse_key="1" * 32, nll_per_word=5.0)
    register(make_step("run-1"), first)
    register(make_step("run-2"), another_model(first, tmp_path / "b", "2" * 32, 6.0))
    register(make_step("run-3"), another_model(first, tmp_path / "c", "3" * 32, 4.0))

    aliases = {
        alias: str(registry.version_with_alias(client, NAME, alias).version) for alias in ("champion", "challenger")
    }
    assert aliases == {"champion": "3", "challenger": "2"}
    assert client.get_model_version(NAME, "3").tags["wikigpt.champion_before"] == "1"


def test_the_same_weights_again_add_no_version(client: MlflowClient, hugging_face_folder: Path, tmp_path: Path) -> None:
    folders = make_folders(tmp_path / "a", hugging_face_folder, reuse_key="1" * 32)
    assert [register(make_step(run), folders) for run in ("run-1", "run-1", "run-2")] == ["1", "1", "1"]
    assert len(registry.versions(client, NAME)) == 1


def test_a_claim_of_a_deleted_version_is_ignored(
    client: MlflowClient, hugging_face_folder: Path, tmp_path: Path
) -> None:
    folders = make_folders(tmp_path / "a", hugging_face_folder, reuse_key="1" * 32)
    register(make_step("run-1"), folders)
    client.delete_model_version(NAME, "1")
    assert register(make_step("run-2"), folders) == "2"
    client.delete_model_version(NAME, "2")
    assert register(make_step("run-2"), folders) == "3"


@pytest.mark.parametrize("nll", [math.nan, math.inf])
def test_a_model_whose_perplexity_is_no_number_gets_no_alias(
    client: MlflowClient, hugging_face_folder: Path, tmp_path: Path, nll: float
) -> None:
    register(
        make_step("run-1"), make_folders(tmp_path / "a", hugging_face_folder, reuse_key="1" * 32, nll_per_word=nll)
    )
    assert client.get_model_version(NAME, "1").tags["wikigpt.verdict"] == "invalid"
    assert registry.version_with_alias(client, NAME, "champion") is None


def test_a_model_without_tokenizer_is_refused_before_anything_is_registered(
    client: MlflowClient, hugging_face_folder: Path, tmp_path: Path
) -> None:
    folders = make_folders(tmp_path / "a", hugging_face_folder, reuse_key="1" * 32)
    from components.shared.storage.manifest import read_manifest, write_manifest

    metadata = read_manifest(folders.model, "model").metadata
    (folders.model / "tokenizer.json").unlink()
    write_manifest(folders.model, "model", metadata)
    with pytest.raises(Failure, match=r"has no tokenizer: there is no tokenizer\.json"):
        register(make_step("run-1"), folders)
    assert registry.versions(client, NAME) == []


def test_an_evaluation_of_other_weights_is_refused_before_anything_is_registered(
    client: MlflowClient, hugging_face_folder: Path, tmp_path: Path
) -> None:
    folders = make_folders(tmp_path / "a", hugging_face_folder, reuse_key="1" * 32)
    other = another_model(folders, tmp_path / "b", "2" * 32, 4.0)
    with pytest.raises(Failure, match=r"The evaluation scored the weights .*, but the model has "):
        register(make_step("run-1"), replace(folders, evaluation=other.evaluation))
    assert registry.versions(client, NAME) == []
