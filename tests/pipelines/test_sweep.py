"""The compiled pipeline of a sweep: rounds one after the other, trials of a round side by side, in the right pods."""

import pytest
import yaml

from components.sweep.run import Sweep
from components.sweep.space import parse_space
from pipelines.cluster.sweep import sweep_package
from tests.pipelines.cluster.conftest import IMAGE

SPACE = ["train.learning_rate=[0.004, 0.008]"]
SWEEP = Sweep(parse_space(SPACE), "optuna", trials=5, at_once=2, seed=7)


@pytest.fixture(scope="module")
def sent():
    return sweep_package(SWEEP, "nightly", [f"cluster.image={IMAGE}", "train.steps=20"], "wikitext-2-v1")


@pytest.fixture(scope="module")
def documents(sent) -> tuple[dict, dict]:
    pipeline, platform = yaml.load_all(sent.ir, yaml.CSafeLoader)
    return pipeline, platform


def test_a_sweep_is_started_with_typed_parameters(sent, documents):
    inputs = documents[0]["root"]["inputDefinitions"]["parameters"]
    assert {name: one["parameterType"] for name, one in inputs.items()} == {
        "space": "LIST",
        "sampler": "STRING",
        "trials": "NUMBER_INTEGER",
        "sampler_seed": "NUMBER_INTEGER",
        "profile": "STRING",
        "corpus": "STRING",
        "seed": "NUMBER_INTEGER",
        "overrides": "LIST",
    }
    assert sent.parameters == {
        "space": SPACE,
        "sampler": "optuna",
        "trials": 5,
        "sampler_seed": 7,
        "profile": "nightly",
        "corpus": "wikitext-2-v1",
        "seed": -1,
        "overrides": ["train.steps=20"],
    }


def test_a_sweep_signs_nothing_and_needs_no_key():
    overrides = [f"cluster.image={IMAGE}", "cluster.signing_secret=null"]
    assert sweep_package(SWEEP, "nightly", overrides).parameters["overrides"] == ["register.signing=never"]


def test_each_round_waits_for_the_trials_of_the_one_before_also_if_one_failed(documents):
    tasks = documents[0]["root"]["dag"]["tasks"]
    loops = sorted(name for name in tasks if name.startswith("for-loop"))
    assert len(loops) == SWEEP.rounds == 3
    rounds = ["sweep", "sweep-2", "sweep-3", "sweep-4"]
    assert tasks["sweep"]["dependentTasks"] == ["validate"]
    for loop, before, after in zip(loops, rounds, rounds[1:], strict=False):
        assert before in tasks[loop]["dependentTasks"]
        assert loop in tasks[after]["dependentTasks"]
        assert tasks[after]["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
        body = documents[0]["components"][tasks[loop]["componentRef"]["name"]]["dag"]["tasks"]
        assert {name.rpartition("-")[0] or name for name in body} == {"download", "tokenize", "train"}


def test_every_task_of_a_trial_is_placed(documents):
    executors = documents[0]["deploymentSpec"]["executors"]
    assert {executor["container"]["image"] for executor in executors.values()} == {IMAGE}
    on_gpu = {name for name, executor in executors.items() if "accelerator" in executor["container"]["resources"]}
    assert on_gpu == {name for name in executors if name.startswith("exec-train")}
