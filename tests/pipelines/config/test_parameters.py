"""Run parameters: the same request has the same settings and reuse keys, wherever it comes from."""

import json
import random

import pytest
import yaml

from components.shared.base.failure import ExitCode, Failure
from components.shared.reuse.keys import request_of
from components.shared.runtime.secrets import move_out_secrets
from pipelines.cluster.compiling import compile_to, parameters_for_cluster, train_pod
from pipelines.cluster.schedules import read_schedule
from pipelines.cluster.submission import package
from pipelines.config.parameters import (
    RunParameters,
    TrainPod,
    compose_settings,
    composer,
    notify_composer,
    parameters_of,
)
from pipelines.config.settings import load, profile_names
from tests.pipelines.cluster.conftest import IMAGE

POD = TrainPod(gpus=1, cores=4)
ODD_TEXTS = (
    "on",
    "null",
    "~",
    "1:30",
    "0x10",
    "- a",
    "a: b # c",
    " ",
    "'",
    '"',
    "ü\u2028€",
    "🙂",
    "${HOME}",
    "{{$}}",
)
OVERRIDES = (
    "train.seed=3",
    "train.learning_rate=1e-5",
    "train.ema_decay=null",
    "tokenize.vocab_size=300",
    "evaluate.protocols=[wikitext-word, penn-treebank]",
    "download.corpus=s3://bucket/corpus",
    "download.force=true",
    "notify.timeout=2",
)


def settings_of(parameters: RunParameters) -> dict:
    return json.loads(compose_settings(parameters, POD))


def with_numerics(settings) -> dict:
    return json.loads(POD.with_numerics(settings).to_json())


@pytest.mark.parametrize("profile", profile_names())
def test_the_parameters_of_settings_compose_the_same_settings(profile):
    draw = random.Random(profile)
    settings = load(profile, draw.sample([o for o in OVERRIDES if "protocols" not in o], 4))
    parameters = parameters_of(json.loads(settings.to_json()))
    assert parameters.profile == profile
    assert settings_of(parameters) == with_numerics(settings)


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_texts_survive(text):
    settings = load("quick").with_values("download", text_column=text)
    assert settings_of(parameters_of(json.loads(settings.to_json()))) == with_numerics(settings)


def test_a_profile_of_a_file_becomes_overrides_of_the_nearest_profile_of_the_project(tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text(yaml.safe_dump({"train": {"steps": 5, "learning_rate": 0.5}, "tokenize": {"vocab_size": 400}}))
    settings = load(str(own))
    parameters = parameters_of(json.loads(settings.to_json()))
    assert parameters.profile in profile_names()
    assert {**settings_of(parameters), "profile": "mine"} == with_numerics(settings)


def test_an_interface_a_command_and_a_schedule_give_the_same_reuse_keys(tmp_path):
    """A person fills in the form of the Kubeflow UI by hand, in another order and notation."""
    image = f"cluster.image={IMAGE}"
    sent = package("nightly", [image, "train.seed=7", "train.learning_rate=0.002"], corpus="wikitext-2-v1").parameters
    schedule = tmp_path / "weekly.yaml"
    schedule.write_text(
        'name: weekly\ncron: "0 0 2 * * SUN"\nprofile: nightly\n'
        "parameters: {train.learning_rate: 2.0e-3, download.corpus: wikitext-2-v1, train.seed: 7}\n"
    )
    scheduled = package("nightly", [image, *read_schedule(schedule).overrides]).parameters
    by_hand = RunParameters(
        profile="nightly", corpus="wikitext-2-v1", seed=7, overrides=["train.learning_rate=2e-3"]
    ).to_dict()
    pod = train_pod(load("nightly").cluster)
    composed = [json.loads(compose_settings(RunParameters(**each), pod)) for each in (sent, scheduled, by_hand)]
    assert composed[0] == composed[1] == composed[2]
    requests = [request_of("0" * 64, settings) for settings in composed]
    assert len({request.model_key for request in requests}) == 1
    other = compose_settings(RunParameters(**{**by_hand, "seed": 8}), pod)
    assert request_of("0" * 64, json.loads(other)).model_key != requests[0].model_key


def test_another_profile_than_the_compiled_one_may_be_chosen(tmp_path):
    compile_to(tmp_path / "p.yaml", load("nightly", [f"cluster.image={IMAGE}"]))
    pod = train_pod(load("nightly").cluster)
    chosen = json.loads(compose_settings(RunParameters(profile="quick"), pod))
    assert chosen == json.loads(pod.with_numerics(load("quick")).to_json())
    assert (chosen["train"]["device"], chosen["train"]["precision"]) == ("cuda", "bfloat16")


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        (
            {"overrides": ["train.learning_rat=1"]},
            r"no setting train\.learning_rat .*did you mean train\.learning_rate",
        ),
        ({"overrides": ["trian.steps=1"]}, r"no section 'trian'.*the parameter overrides.*did you mean train"),
        ({"overrides": ["train.steps"]}, r"Cannot read the setting 'train\.steps' \(the parameter overrides\)"),
        ({"overrides": ["cluster.image=x"]}, r"'cluster\.image' is compiled into the pipeline"),
        ({"overrides": ["train.seed=1"], "seed": 2}, r"parameter seed and the override train\.seed are both given"),
        ({"overrides": ["download.corpus=sample"], "corpus": "sample"}, r"corpus and the override download\.corpus"),
        ({"seed": -2}, r"train\.seed .*got -2"),
        ({"profile": "nightli"}, r"no profile 'nightli' \(the parameter profile\): did you mean nightly"),
        ({"profile": "./mine.yaml"}, r"no profile './mine\.yaml' \(the parameter profile\)"),
    ],
)
def test_wrong_parameters_are_refused_with_the_nearest_right_ones(parameters, sentence):
    with pytest.raises(Failure, match=sentence) as caught:
        compose_settings(RunParameters(**parameters), POD)
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_profile_for_a_gpu_is_refused_where_the_training_gets_none():
    with pytest.raises(Failure, match=r"train\.device is cuda.*choose another profile"):
        compose_settings(RunParameters(profile="finetune"), TrainPod(gpus=0, cores=2))


def test_a_secret_is_checked_and_stays_a_reference(monkeypatch):
    """The digest of an archive is refused beside a corpus that is no archive, so the check needs the address."""
    address = "https://me:hunter2@corpora.example/corpus.zip"
    values = json.loads(load("quick", [f"download.corpus={address}", f"download.sha256={'a' * 64}"]).to_json())
    moved, variables = move_out_secrets(values)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    composed = compose_settings(parameters_of(moved), POD)
    assert json.loads(composed)["download"]["corpus"] == "${WIKIGPT_SECRET_DOWNLOAD_CORPUS}"
    assert "hunter2" not in composed
    monkeypatch.delenv("WIKIGPT_SECRET_DOWNLOAD_CORPUS")
    with pytest.raises(Failure, match="refer to WIKIGPT_SECRET_DOWNLOAD_CORPUS, which is not set"):
        compose_settings(parameters_of(moved), POD)


@pytest.mark.parametrize(
    ("profile", "overrides", "timeout"),
    [
        ("quick", ["notify.timeout=2", "train.learning_rat=1"], 2.0),
        ("quick", ["notify.timeout=soon"], 5.0),
        ("no-profile", ["notify.timeout=2"], 5.0),
    ],
)
def test_the_end_of_a_run_with_wrong_parameters_can_be_reported(profile, overrides, timeout):
    values = json.loads(notify_composer(profile, overrides)())["notify"]
    assert load("quick").with_values("notify", **values).notify.timeout == timeout


def test_the_download_step_composes_by_its_own_arguments():
    parameters = RunParameters(corpus="sample", seed=3, force=True, overrides=["train.steps=9"])
    compose = composer("quick", "sample", 3, True, ["train.steps=9"], POD.gpus, POD.cores)
    assert compose() == compose_settings(parameters, POD)
    download = settings_of(parameters)["download"]
    assert (download["corpus"], download["force"]) == ("sample", True)


def test_what_is_sent_is_what_differs_from_the_profile():
    assert parameters_for_cluster(load("nightly", ["train.steps=7"])) == RunParameters(
        profile="nightly", overrides=["train.steps=7"]
    )
