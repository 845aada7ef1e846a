"""Profiles and overrides become checked settings, or one sentence that says what to fix."""

import json
import logging

import pytest

from components.shared.base.failure import ExitCode, Failure
from components.shared.reuse.keys import request_of
from pipelines.config.settings import SECTIONS, load, profile_names


def refused(*overrides: str, profile: str = "quick") -> str:
    with pytest.raises(Failure) as caught:
        load(profile, overrides)
    assert caught.value.exit_code == ExitCode.USAGE
    return str(caught.value)


@pytest.mark.parametrize("profile", profile_names())
def test_every_profile_loads_and_says_what_it_is_for(profile):
    settings = load(profile)
    assert len(settings.description) > 20
    assert set(json.loads(settings.to_json())) == {*SECTIONS, "profile"}


def test_the_profiles_of_the_project():
    assert profile_names() == ["cpu", "finetune", "lora", "nightly", "quick", "scratch", "scratch-modern"]


def test_an_override_changes_one_value_and_keeps_its_type():
    settings = load("quick", ["train.learning_rate=3e-4", "train.steps=7"])
    assert (settings.train.learning_rate, settings.train.steps) == (3e-4, 7)


def test_settings_survive_their_json():
    text = load("quick").to_json()
    assert json.loads(text)["train"]["steps"] == load("quick").train.steps
    assert text == load("quick").to_json()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.learning_rat=1", "did you mean train.learning_rate?"),
        ("trian.steps=1", "did you mean train?"),
        ("train.learning_rate=fast", "train.learning_rate: Input should be a valid number"),
        ("train.learning_rate=0", "train.learning_rate must be from 1e-12 to 100, got 0.0; the nearest is 1e-12"),
        ("train.sequence_length=4096", "train.sequence_length must be at most context"),
        ("tokenize.vocab_size=3", "tokenize.vocab_size"),
        ("train.steps", "write it as section.key=value"),
        ("evaluate.policy=atuo", "evaluate.policy: Input should be 'auto', 'manual' or 'never'"),
    ],
)
def test_a_wrong_setting_is_named(override, said):
    assert said in refused(override)


def test_an_unknown_profile_names_the_nearest():
    assert "did you mean quick?" in refused(profile="quik")


def test_a_profile_that_is_not_yaml(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("train: [")
    assert "is not valid YAML: expected the node content" in refused(profile=str(path))
    assert "in line 1" in refused(profile=str(path))


def test_an_empty_section_of_a_profile_has_its_defaults_and_takes_overrides(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("train:\n  steps: 5\ndownload:\ncluster:\n  train:\n")
    settings = load(str(path), ["download.corpus=sample", "cluster.train.gpus=1"])
    assert (settings.download.corpus, settings.cluster.train.gpus, settings.train.steps) == ("sample", 1, 5)


def test_a_section_that_is_no_section(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("train: 5\n")
    assert "section train of the profile holds no settings, got 5" in refused("train.steps=5", profile=str(path))


def test_what_does_not_change_weights_does_not_change_the_reuse_key():
    def key(*overrides: str) -> str:
        return request_of("d" * 64, json.loads(load("quick", overrides).to_json())).model_key

    assert key("checkpoints.every=7", "evaluate.samples=1", "notify.webhook=https://x.test/") == key()
    assert key("train.seed=7") != key()
    assert key("tokenize.vocab_size=1024") != key()


@pytest.mark.parametrize("name", profile_names())
def test_a_profile_for_the_cluster_has_a_checkpoint_a_minute(name: str) -> None:
    """A container may be killed a second after SIGTERM, however long a step takes."""
    settings = load(name)
    assert settings.checkpoints.every_seconds == (60 if settings.train.device == "cuda" else None)


def test_an_old_key_in_a_profile_or_an_override_is_read_by_its_new_name(tmp_path, caplog):
    path = tmp_path / "mine.yaml"
    path.write_text("train:\n  steps: 5\n  layers: 3\n  block: 2000\n")
    with caplog.at_level(logging.WARNING):
        settings = load(str(path), ["train.block=64", "train.batch=2"])
        assert (settings.train.num_hidden_layers, settings.train.sequence_length) == (3, 64)
        assert load("quick", ["train.batch=2"]).train.global_batch_size == 2
    assert "train.layers is now called train.num_hidden_layers" in caplog.text
    assert "mine.yaml, line 4" in refused(profile=str(path))


def test_an_old_and_a_new_key_are_not_given_together(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("train:\n  steps: 5\n  batch: 2\n  global_batch_size: 4\n")
    both = "train.batch is the old name of train.global_batch_size, and both are given"
    assert both in refused(profile=str(path))
    assert both in refused("train.batch=2", "train.global_batch_size=2")
