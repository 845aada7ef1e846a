"""Which version is to be served, and why the one with the alias must not be."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.shared.base.failure import ExitCode, Failure
from components.shared.tracking import approval, registry
from pipelines.registry.approval import resolve_served
from pipelines.registry.models import models
from pipelines.registry.promotion import promote
from pipelines.serving.rejection import reject
from pipelines.serving.wanted import wanted_version
from tests.registry import make_version
from tests.signing import make_keys

NAME = "wikigpt-sample"


def test_the_alias_is_resolved_to_a_number(filled: MlflowClient) -> None:
    champion = filled.get_model_version(NAME, "1")
    wanted = wanted_version(filled, NAME)
    assert (wanted.version, wanted.weights_digest) == ("1", champion.tags[registry.WEIGHTS_DIGEST])
    filled.set_registered_model_alias(NAME, "champion", "2")
    assert wanted_version(filled, NAME).version == "2"


def test_a_model_without_a_champion(filled: MlflowClient) -> None:
    filled.delete_registered_model_alias(NAME, "champion")
    with pytest.raises(
        Failure, match=r"No version of wikigpt-sample has the alias champion \(model wikigpt-sample\): set"
    ):
        wanted_version(filled, NAME)
    with pytest.raises(Failure, match="No version of nothing has the alias champion"):
        wanted_version(filled, "nothing")


def test_a_version_without_files(filled: MlflowClient) -> None:
    number = make_version(filled, NAME, 5.0)
    filled.set_model_version_tag(NAME, number, registry.REGISTERED, "a run")
    filled.set_registered_model_alias(NAME, "champion", number)
    with pytest.raises(Failure, match="Version 3 of wikigpt-sample has no files of a model in MLflow"):
        wanted_version(filled, NAME)


def test_a_version_whose_files_were_deleted(filled: MlflowClient, tmp_path: Path) -> None:
    model = filled.get_model_version(NAME, "1").source.removeprefix("models:/")
    folder = Path(filled.get_logged_model(model).artifact_location.removeprefix("file://")) / "model"
    shutil.move(folder, tmp_path / "moved")
    try:
        with pytest.raises(Failure, match="has no files of a model in MLflow"):
            wanted_version(filled, NAME)
    finally:
        shutil.move(tmp_path / "moved", folder)


def test_a_version_of_another_project(filled: MlflowClient) -> None:
    number = str(filled.create_model_version(NAME, "file:///nowhere").version)
    filled.set_registered_model_alias(NAME, "champion", number)
    with pytest.raises(Failure, match=r"Version 3 of wikigpt-sample has no tag wikigpt.weights_digest"):
        wanted_version(filled, NAME)


def test_a_version_that_failed_its_rollout_until_a_person_moves_the_alias(filled: MlflowClient) -> None:
    filled.set_registered_model_alias(NAME, "champion", "2")
    reject(filled, NAME, "2", None, "it is slow", None, lambda _: None)
    with pytest.raises(Failure, match="Version 2 of wikigpt-sample failed its rollout: it is slow"):
        wanted_version(filled, NAME)
    filled.set_registered_model_alias(NAME, "champion", "1")
    assert wanted_version(filled, NAME).version == "1"


def test_a_version_whose_run_has_not_ended_is_waited_for(filled: MlflowClient) -> None:
    filled.delete_model_version_tag(NAME, "1", registry.REGISTERED)
    with pytest.raises(Failure, match=f"Version 1 of {NAME} is not completely registered yet") as raised:
        wanted_version(filled, NAME)
    assert raised.value.exit_code is ExitCode.TIMED_OUT
    filled.set_model_version_tag(NAME, "1", registry.REGISTERED, "run-1")
    assert wanted_version(filled, NAME).version == "1"


def test_a_version_that_does_not_verify(filled: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIKIGPT_PUBLIC_KEY", str(make_keys(tmp_path)[1]))
    with pytest.raises(Failure, match="Version 1 of wikigpt-sample is not signed"):
        wanted_version(filled, NAME)


def test_a_version_that_nobody_entitled_promoted_until_a_promoter_confirms_it(
    filled: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(approval, "movers_of", lambda reader, model: asked.append(model))
    monkeypatch.setenv("WIKIGPT_PROMOTERS", "ada")
    filled.set_registered_model_alias(NAME, "champion", "2")
    wanted = wanted_version(filled, NAME)
    assert wanted.version == "1" and wanted.refused and asked == [NAME]
    assert resolve_served(filled, "champion", NAME, note=lambda _: None, on_refusal=asked.append).version == 1
    assert asked == [NAME, NAME, "2"]
    assert {row.version: row.refused for row in models(filled)} == {"1": None, "2": wanted.refused}
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    promote(filled, "2", reason="reads better")
    wanted = wanted_version(filled, NAME)
    assert (wanted.version, wanted.refused) == ("2", None)
