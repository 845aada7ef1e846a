"""A model that learns from two registered versions: real steps at toy size, with a real store and MLflow's database."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.shared.base.failure import Failure
from components.shared.storage.manifest import read_manifest
from components.shared.storage.store import open_store
from components.shared.tracking import registry
from pipelines.local.home import open_home
from pipelines.local.reproduction import check_reproducible, copy_inputs, lineage_of
from tests.toy_pipeline import MODEL, ToyRun, write_corpus


@pytest.mark.slow
def test_the_teachers_are_fixed_once_and_in_the_lineage(
    tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    client = MlflowClient(tracking_uri)
    corpus = write_corpus(tmp_path / "corpus", articles=12)
    for number in ("1", "2"):
        assert ToyRun.start(tmp_path, f"teacher-{number}", corpus, seed=int(number)).finish() == number
    client.set_registered_model_alias(MODEL, "champion", "1")
    digests = [client.get_model_version(MODEL, number).tags[registry.WEIGHTS_DIGEST] for number in ("1", "2")]
    pinned = [f"models:/{MODEL}/{number}#{digest}" for number, digest in zip(("1", "2"), digests, strict=True)]

    asked = [f"models:/{MODEL}@champion", f"models:/{MODEL}/2"]
    student = ToyRun.start(tmp_path, "student", corpus, seed=3, distill=asked)
    assert student.settings["train"]["distill"] == pinned
    assert student.settings["tokenize"]["tokenizer"] == pinned[0]
    client.set_registered_model_alias(MODEL, "champion", "2")
    version = client.get_model_version(MODEL, student.finish())
    assert version.tags[registry.DISTILLED_FROM] == f"{MODEL}/1, {MODEL}/2"
    assert version.tags[registry.DISTILLED_DIGESTS] == ", ".join(digests)
    assert f"learned from the probabilities of `{MODEL}/1, {MODEL}/2`" in version.description
    assert read_manifest(student.folder / "model", "model").metadata["identity"]["train.distill"] == pinned

    again = ToyRun.start(tmp_path, "again", corpus, seed=3, distill=[f"models:/{MODEL}/1", asked[1]]).output
    assert (again.decision, again.reuse_key) == ("skip", student.output.reuse_key)
    others = ToyRun.start(tmp_path, "others", corpus, seed=3, distill=[f"models:/{MODEL}/3", asked[1]]).output
    assert others.decision == "train"

    lineage = lineage_of(client, version)
    check_reproducible(client, lineage)
    own = open_home(tmp_path / "own")
    copy_inputs(open_store(str(tmp_path / "store")), own, lineage)
    assert all(open_store(str(own.store)).find("model", digest) for digest in digests)

    with pytest.raises(Failure, match=rf"{MODEL} has no version 9.*train\.distill"):
        ToyRun.start(tmp_path, "absent", corpus, distill=[f"models:/{MODEL}/9"])
