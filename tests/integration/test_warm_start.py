"""A training that starts from a registered version: real steps at toy size, with a real store and MLflow's database."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.evaluate.model import load_model
from components.evaluate.settings import EvaluateSettings
from components.shared.base.failure import Failure, Interrupted
from components.shared.storage.manifest import read_manifest
from components.shared.storage.store import open_store
from components.shared.tracking import registry
from pipelines.config.settings import load
from pipelines.local import check
from pipelines.local.home import open_home
from pipelines.local.reproduction import check_reproducible, copy_inputs, lineage_of
from tests.components.train.killing import interrupt_after
from tests.toy_pipeline import MODEL, ToyRun, write_corpus

CHAMPION = f"models:/{MODEL}@champion"


@pytest.fixture
def client(tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    return MlflowClient(tracking_uri)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "small", articles=12)


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "grown", articles=24)


def loss_of(model: Path) -> float:
    return read_manifest(model, "model").metadata["validation_loss"]


def first_version(client: MlflowClient, folder: Path, corpus: Path, **train: object) -> str:
    number = ToyRun.start(folder, "first", corpus, **train).finish()
    assert champion_of(client) == number
    return number


@pytest.mark.slow
def test_a_nightly_run_goes_on_from_the_champion(client, tmp_path, small, grown):
    """One story, because its runs take most of the time."""
    first = first_version(client, tmp_path, small, steps=60)

    warm = ToyRun.start(tmp_path, "warm", grown, pretrained=CHAMPION)
    digest = client.get_model_version(MODEL, first).tags[registry.WEIGHTS_DIGEST]
    assert warm.settings["train"]["pretrained"] == f"models:/{MODEL}/{first}#{digest}"
    assert warm.settings["tokenize"]["tokenizer"] == f"models:/{MODEL}/{first}#{digest}", "one setting does it all"
    warm_model = warm.tokenize().train()
    # The same steps from nothing, in the tokens of the champion so that losses per token compare.
    cold = ToyRun.start(tmp_path, "cold", grown, {"tokenizer": f"models:/{MODEL}/{first}"})
    assert loss_of(warm_model) < loss_of(cold.tokenize().train()) - 0.1

    second = warm.register()
    version = client.get_model_version(MODEL, second)
    assert version.tags[registry.WARM_START_FROM] == f"{MODEL}/{first}"
    assert version.tags[registry.WARM_START_DIGEST] == digest
    assert f"started from the weights of version `{MODEL}/{first}`" in version.description
    assert champion_of(client) == second

    lineage = lineage_of(client, version)
    check_reproducible(client, lineage)
    own = open_home(tmp_path / "own")
    copy_inputs(open_store(str(tmp_path / "store")), own, lineage)
    assert open_store(str(own.store)).find("model", digest), "a reproduction starts from the same weights"

    # The reach of the start is 16 too, and the config allows 64 positions.
    metadata = read_manifest(warm_model, "model").metadata
    assert load_model(warm_model, metadata, EvaluateSettings(threads=1, device="cpu")).scorer.window == 16

    again = ToyRun.start(tmp_path, "again", grown, pretrained=CHAMPION).output
    assert again.decision == "skip", "the champion is the result of this request"
    tags = client.get_run(registry_run(client, "again")).data.tags
    assert tags[registry.MODEL_VERSION] == f"{MODEL}/{second}"
    assert f"version {second}, from which it would start" in tags[registry.DECISION_REASON]

    client.set_registered_model_alias(MODEL, "champion", first)
    moved_back = ToyRun.start(tmp_path, "moved-back", grown, pretrained=CHAMPION).output
    assert (moved_back.decision, moved_back.reuse_key) == ("skip", warm.output.reuse_key)
    client.set_registered_model_alias(MODEL, "champion", second)

    assert ToyRun.start(tmp_path, "longer", grown, pretrained=CHAMPION, steps=21).output.decision == "train"
    more = write_corpus(tmp_path / "more", articles=30)
    assert ToyRun.start(tmp_path, "more-text", more, pretrained=CHAMPION).output.decision == "train"
    forced = ToyRun.start(tmp_path, "forced", grown, pretrained=CHAMPION, force=True)
    assert forced.output.decision == "train"
    assert forced.settings["train"]["pretrained"].startswith(f"models:/{MODEL}/{second}#")


@pytest.mark.slow
def test_an_alias_that_moves_does_not_change_what_a_resumed_run_trains(client, tmp_path, small, grown, monkeypatch):
    first = first_version(client, tmp_path, small)
    run = ToyRun.start(tmp_path, "warm", grown, pretrained=CHAMPION).tokenize()
    whole = read_manifest(ToyRun.start(tmp_path, "whole", grown, pretrained=CHAMPION).tokenize().train(), "model")
    digest = whole.files["model.safetensors"].sha256
    forget_models_of(tmp_path, run.output.reuse_key)

    other = ToyRun.start(tmp_path, "other", small, seed=2).finish()
    client.set_registered_model_alias(MODEL, "champion", other)
    client.delete_model_version(MODEL, first)  # the store still has its weights
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt_after(patch, steps=7)
        run.train()
    resumed = read_manifest(run.train(), "model")
    assert resumed.files["model.safetensors"].sha256 == digest
    assert resumed.metadata["identity"]["train.pretrained"].startswith(f"models:/{MODEL}/{first}#")


@pytest.mark.slow
def test_without_the_store_the_version_comes_from_mlflow(client, tmp_path, small, grown):
    """The tokenizer that MLflow kept gives the same tokens and the same training as that of the store."""
    first_version(client, tmp_path, small)
    near = ToyRun.start(tmp_path, "near", grown, pretrained=CHAMPION, adapter="lora").tokenize()
    here = near.train()
    shutil.rmtree(tmp_path / "store")
    far = ToyRun.start(tmp_path, "far", grown, pretrained=CHAMPION, adapter="lora")
    there = far.tokenize().train()
    ours, theirs = (read_manifest(folder, "model") for folder in (here, there))
    assert ours.files["model.safetensors"] == theirs.files["model.safetensors"]
    assert ours.metadata["identity"] == theirs.metadata["identity"]
    assert ours.metadata["merged"]


@pytest.mark.slow
def test_a_version_that_cannot_be_used_fails_in_one_sentence(client, tmp_path, small, grown):
    def fails(name: str, pretrained: str, *parts: str, tokenizer: dict | None = None, **train: object) -> None:
        with pytest.raises(Failure) as failure:
            run = ToyRun.start(tmp_path, name, grown, tokenizer, pretrained=pretrained, **train)
            run.tokenize().train()
        for part in parts:
            assert part in str(failure.value), failure.value

    def finding() -> check.Finding:
        (found,) = check.pretrained(load("quick", [f"train.pretrained={CHAMPION}"]), "", open_home(tmp_path / "home"))
        return found

    fails("no-model", CHAMPION, f"There is no registered model {MODEL}", "train.pretrained=null")
    assert not finding().ok
    first = first_version(client, tmp_path, small)
    assert (finding().ok, finding().seen) == (True, f"version {first} of {MODEL}")
    fails("other-model", "models:/wikigpt-toi/1", "no registered model wikigpt-toi", f"did you mean {MODEL}?")
    fails("no-alias", f"models:/{MODEL}@best", "No version of wikigpt-toy has the alias best", "wikigpt promote")
    fails("no-version", f"models:/{MODEL}/9", f"{MODEL} has no version 9")
    plain = client.create_model_version(MODEL, "file:///nowhere").version
    fails("foreign", f"models:/{MODEL}/{plain}", f"Version {plain} of {MODEL} has no tag {registry.WEIGHTS_DIGEST}")
    own = {"vocab_size": 290, "tokenizer": str(other_tokenizer(tmp_path, small))}
    fails("tokenizer", CHAMPION, "another tokenizer than that of", "tokenize.tokenizer", tokenizer=own)

    prefix = ToyRun.start(tmp_path, "prefix", small, pretrained=CHAMPION, adapter="prefix", prefix_tokens=4).finish()
    fails("prefix", f"models:/{MODEL}/{prefix}", f"Version {prefix} of {MODEL} was trained with a prefix")

    shutil.rmtree(tmp_path / "store")
    (weights,) = [path for path in (tmp_path / "mlartifacts").rglob("model.safetensors") if is_of(client, first, path)]
    with weights.open("r+b") as stream:
        stream.seek(-4, 2)
        stream.write(b"\x00\x00\x80?")
    fails("damaged", CHAMPION, "The weights of the version in MLflow are damaged", f"models:/{MODEL}/{first}")
    shutil.rmtree(weights.parent.parent)
    fails("gone", CHAMPION, f"models:/{MODEL}/{first}", "The version has no model")


def champion_of(client: MlflowClient) -> str:
    return str(client.get_model_version_by_alias(MODEL, "champion").version)


def registry_run(client: MlflowClient, name: str) -> str:
    (experiment,) = [each for each in client.search_experiments() if each.name == "wikigpt"]
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`wikigpt.pipeline_run` = '{name}'")
    return run.info.run_id


def forget_models_of(folder: Path, reuse_key: str) -> None:
    """Removes the record of a training, so that it is not reused, and its checkpoints."""
    shutil.rmtree(folder / "store" / "claims" / "models" / reuse_key)
    shutil.rmtree(folder / "store" / "manifests" / "checkpoint" / reuse_key)


def other_tokenizer(folder: Path, corpus: Path) -> Path:
    """The folder of a tokenizer of another vocabulary."""
    from components.tokenize.run import write_tokens
    from components.tokenize.settings import TokenizeSettings

    write_tokens(TokenizeSettings(vocab_size=290), corpus, folder / "other-tokens")
    return folder / "other-tokens" / "tokenizer"


def is_of(client: MlflowClient, number: str, path: Path) -> bool:
    model = client.get_model_version(MODEL, number).source.removeprefix("models:/")
    return model in str(path)
