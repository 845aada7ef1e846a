"""The step, called as the pipeline calls it, with a real store and a real registry."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from components.download.run import run
from components.shared.base.failure import Failure
from components.shared.reuse.trained import publish_model
from components.shared.reuse.training_lock import training_lock
from components.shared.runtime.liveness import end_heartbeat, heartbeat
from components.shared.storage.manifest import read_manifest, write_manifest
from components.shared.tracking import registry


def publish(store, folder, kind, name):
    folder.mkdir()
    (folder / "content").write_text(kind)
    write_manifest(folder, kind)
    store.publish(folder, kind, name)


def keep(store, folder, reuse_key, weights="weights") -> str:
    """Publishes a model as the step `train` does, and returns its digest."""
    folder.mkdir()
    (folder / "model.safetensors").write_text(weights)
    return publish_model(store, folder, write_manifest(folder, "model", {"numerics": {"device": "cpu"}}), reuse_key)


def register(client, model, reuse_key) -> str:
    client.create_registered_model(model)
    tags = {registry.REUSE_KEY: reuse_key}
    return str(client.create_model_version(model, "s3://nowhere/model", tags=tags).version)


def decision_of(capsys) -> dict:
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    return next(event for event in events if event["event"] == "decision")


def test_without_prior_artifacts_the_run_trains_and_is_recorded(step, tmp_path, capsys):
    here = step()
    outcome = run(here, tmp_path / "corpus")
    facts = read_manifest(tmp_path / "corpus", "corpus").metadata
    event = decision_of(capsys)
    assert (event["action"], event["level"], event["reuse_key"]) == ("train", "nothing", outcome.reuse_key)
    assert here.store.find("corpus", facts["dataset_digest"])
    data = here.tracking.client.get_run(here.tracking.run_id).data
    assert data.tags[registry.REUSE_KEY] == outcome.reuse_key
    assert data.tags[registry.TOKENS_KEY] == outcome.tokens_key
    assert data.tags[registry.DATASET_DIGEST] == facts["dataset_digest"]
    assert data.tags["wikigpt.decision"] == outcome.decision == "train"
    assert data.params["train.steps"] == "3"
    run(here, tmp_path / "again")
    inputs = here.tracking.client.get_run(here.tracking.run_id).inputs.dataset_inputs
    used = {(each.dataset.name, each.tags[0].value) for each in inputs}
    assert len(inputs) == 3, "a retry logs no dataset again"
    assert used == {
        (f"{facts['name']}/{split}", context)
        for split, context in (("train", "training"), ("validation", "validation"), ("test", "test"))
    }
    assert {each.dataset.digest for each in inputs} == {facts["dataset_digest"][:36]}
    logged = here.tracking.client.download_artifacts(here.tracking.run_id, registry.SETTINGS_FILE, str(tmp_path))
    assert json.loads(Path(logged).read_text()) == here.settings
    outputs = [tmp_path / name for name in ("run_id", "settings", "tokens_key", "reuse_key", "reuse_level")]
    assert outcome.write(*outputs) == "train"
    run_id, settings, *others = [path.read_text() for path in outputs]
    assert run_id == here.run
    assert json.loads(settings) == here.settings
    assert others == [outcome.tokens_key, outcome.reuse_key, "nothing"]


def test_a_run_that_died_is_marked_killed_by_the_next(step, tmp_path):
    here = step()
    client = here.tracking.client
    experiment = client.get_run(here.tracking.run_id).info.experiment_id
    dead = client.create_run(experiment, tags={"wikigpt.pipeline_run": "dead"}).info.run_id
    end_heartbeat(here.store, "dead")
    run(here, tmp_path / "corpus")
    assert client.get_run(dead).info.status == "KILLED"
    assert client.get_run(here.tracking.run_id).info.status == "RUNNING"


def test_each_reuse_level_in_turn(step, tmp_path, capsys):
    reuse_key = run(step(), tmp_path / "corpus").reuse_key
    store, client = step().store, step().tracking.client
    decision_of(capsys)

    publish(store, tmp_path / "checkpoint", "checkpoint", f"{reuse_key}/00000002")
    run(step(), tmp_path / "corpus")
    assert decision_of(capsys)["level"] == "checkpoint"

    digest = keep(store, tmp_path / "model", reuse_key)
    run(step(), tmp_path / "corpus")
    assert decision_of(capsys)["level"] == "model"

    number = register(client, "wikigpt-harbour-texts", reuse_key)
    run(step(), tmp_path / "corpus")
    assert decision_of(capsys)["level"] == "model", "its registration was killed before its end"
    client.set_model_version_tag("wikigpt-harbour-texts", number, registry.REGISTERED, "run-1")
    assert run(step(), tmp_path / "corpus").decision == "skip"
    event = decision_of(capsys)
    assert (event["level"], event["version"]) == ("version", number)

    assert run(step(force=True), tmp_path / "corpus").decision == "train"
    assert decision_of(capsys)["level"] == "forced"

    client.delete_model_version("wikigpt-harbour-texts", number)
    assert run(step(), tmp_path / "corpus").decision == "train"
    assert decision_of(capsys)["level"] == "model"

    store.forget("model", digest)
    run(step(), tmp_path / "corpus")
    assert decision_of(capsys)["level"] == "checkpoint", "the record of a model that is gone is not a model"


def test_a_version_that_another_reuse_key_made_counts_where_this_one_ended_in_the_same_weights(step, tmp_path, capsys):
    """An edit of code may change the key and no weight; the version is not changed then."""
    here = step()
    reuse_key = run(here, tmp_path / "corpus").reuse_key
    digest = keep(here.store, tmp_path / "model", reuse_key)
    client = here.tracking.client
    number = register(client, "wikigpt-harbour-texts", "0" * 32)
    for tag, value in {registry.WEIGHTS_DIGEST: digest, registry.REGISTERED: "run-1"}.items():
        client.set_model_version_tag("wikigpt-harbour-texts", number, tag, value)
    decision_of(capsys)
    assert run(step(), tmp_path / "corpus").decision == "skip"
    assert decision_of(capsys)["version"] == number


def test_other_weights_at_the_same_address_are_another_training(step, tmp_path):
    weights = tmp_path / "weights"
    weights.mkdir()
    keys = []
    for content in ("first", "other", "other"):
        (weights / "model.safetensors").write_text(content)
        here = step()
        here.settings["train"]["pretrained"] = str(weights)
        keys.append(run(here, tmp_path / "corpus").reuse_key)
    assert keys[0] != keys[1] == keys[2]


def test_a_version_of_another_corpus_or_reuse_key_does_not_count(step, tmp_path):
    reuse_key = run(step(), tmp_path / "corpus").reuse_key
    client = step().tracking.client
    register(client, "wikigpt-other", reuse_key)
    register(client, "wikigpt-harbour-texts", "0" * 32)
    assert run(step(), tmp_path / "corpus").decision == "train"


def test_a_second_run_of_one_reuse_key_is_refused_while_the_first_is_alive(step, tmp_path):
    here = step()
    reuse_key = run(here, tmp_path / "corpus").reuse_key
    training_lock(here.store, reuse_key).acquire("run-1")
    with heartbeat(here.store, "run-1"):
        assert run(here, tmp_path / "corpus").decision == "train"
        with pytest.raises(Failure, match="The run run-1 is training exactly this already"):
            run(step(run="run-2"), tmp_path / "other")
    end_heartbeat(here.store, "run-1")
    assert run(step(run="run-2"), tmp_path / "other").decision == "train"


def test_tokens_in_an_address_are_not_shown(step, tmp_path):
    here = step(corpus="https://user:secret@nowhere.invalid/a.zip?token=secret")
    with pytest.raises(Failure) as failure:
        run(here, tmp_path / "corpus")
    assert "secret" not in str(failure.value)


def test_a_step_that_needs_no_hub_imports_neither_torch_nor_datasets(tmp_path):
    code = (
        "import sys; from pathlib import Path; from components.download.fetch import fetch_corpus;"
        "from components.download.settings import DownloadSettings;"
        "from components.shared.storage.store import open_store;"
        "import components.download.run;"
        f"fetch_corpus(DownloadSettings(corpus='sample'), Path({str(tmp_path / 'out')!r}),"
        f" open_store({str(tmp_path / 'store')!r}));"
        "print(sorted({'torch', 'datasets', 'transformers', 'mlflow', 'pandas'} & sys.modules.keys()))"
    )
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout.splitlines()[-1] == "[]"


def test_a_run_that_must_sign_its_version_and_has_no_key_ends_before_it_fetches_anything(step, tmp_path, monkeypatch):
    monkeypatch.delenv("WIKIGPT_SIGNING_KEY", raising=False)
    here = step()
    here.settings["register"] = {"signing": "required", "signing_key": None}
    with pytest.raises(Failure, match=r"Every version must be signed .*no key is named"):
        run(here, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()
    monkeypatch.setenv("WIKIGPT_SIGNING_KEY", "/etc/wikigpt/signing/key.pem")  # mounted where it signs
    assert run(here, tmp_path / "corpus").decision == "train"
