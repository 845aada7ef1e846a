"""The compiled pipeline: its tasks, edges and condition, and that it is deterministic."""

import fcntl
import os
import stat
from pathlib import Path

import pytest
import yaml

from components.shared.base.failure import ExitCode, Failure
from pipelines.cluster.compiling import compile_to
from pipelines.config.resources import in_bytes
from pipelines.config.settings import load, profile_names

GOLDEN = Path(__file__).parents[1] / "golden"
IMAGE = "registry.example/wikigpt@sha256:" + "0" * 64
EDGES = {
    "validate": {"download"},
    "tokenize": {"download", "validate"},
    "train": {"download", "tokenize"},
    "evaluate": {"download", "train"},
    "register": {"download", "train", "evaluate"},
}


def compiled(folder: Path, *overrides: str, profile: str = "quick") -> list[dict]:
    path = folder / "pipeline.yaml"
    compile_to(path, load(profile, overrides))
    return list(yaml.load_all(path.read_text(), yaml.CSafeLoader))


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> dict:
    return compiled(tmp_path_factory.mktemp("compiled"))[0]


def dag(pipeline: dict, component: str | None = None) -> dict:
    return (pipeline["components"][component] if component else pipeline["root"])["dag"]["tasks"]


def test_the_notice_runs_whatever_happened(pipeline):
    tasks = dag(pipeline)
    assert set(tasks) == {"exit-handler-1", "notify"}
    assert tasks["notify"]["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert tasks["notify"]["inputs"]["parameters"]["status"]["taskFinalStatus"]["producerTask"] == "exit-handler-1"


def test_everything_after_download_waits_for_one_word(pipeline):
    tasks = dag(pipeline, "comp-exit-handler-1")
    assert set(tasks) == {"download", "condition-2"}
    condition = tasks["condition-2"]["triggerPolicy"]["condition"]
    assert condition == "inputs.parameter_values['pipelinechannel--download-Output'] == 'train'"
    assert set(dag(pipeline, "comp-condition-2")) == set(EDGES)


@pytest.mark.parametrize("step", EDGES)
def test_each_step_waits_for_what_it_reads(pipeline, step):
    task = dag(pipeline, "comp-condition-2")[step]
    inputs = {**task["inputs"].get("artifacts", {}), **task["inputs"]["parameters"]}
    from_tasks = {
        value["taskOutputArtifact"]["producerTask"] for value in inputs.values() if "taskOutputArtifact" in value
    }
    from_outside = {
        value.get("componentInputArtifact", value.get("componentInputParameter", "")).split("--")[-1].split("-")[0]
        for value in inputs.values()
    } & {"download"}
    assert set(task.get("dependentTasks", ())) | from_tasks | from_outside == EDGES[step]


def test_no_task_is_cached_by_kfp(pipeline):
    for tasks in (dag(pipeline), *(dag(pipeline, name) for name in ("comp-exit-handler-1", "comp-condition-2"))):
        for name, task in tasks.items():
            if task["componentRef"]["name"].startswith(("comp-exit", "comp-condition")):
                continue
            assert task["cachingOptions"] == {}, name


def test_a_run_is_started_with_typed_parameters(pipeline):
    parameters = pipeline["root"]["inputDefinitions"]["parameters"]
    assert {name: (one["parameterType"], one["defaultValue"]) for name, one in parameters.items()} == {
        "profile": ("STRING", "quick"),
        "corpus": ("STRING", ""),
        "seed": ("NUMBER_INTEGER", -1),
        "force": ("BOOLEAN", False),
        "overrides": ("LIST", []),
    }
    assert all(one["description"] and one["isOptional"] for one in parameters.values())
    assert {name: one["literals"] for name, one in parameters.items() if "literals" in one} == {
        "profile": profile_names()
    }


def test_the_settings_of_a_compilation_are_the_defaults_of_a_run(tmp_path):
    overrides = ["download.corpus=sample", "train.seed=7", "download.force=true", "train.steps=9"]
    parameters = compiled(tmp_path, *overrides)[0]["root"]["inputDefinitions"]["parameters"]
    assert {name: one["defaultValue"] for name, one in parameters.items()} == {
        "profile": "quick",
        "corpus": "sample",
        "seed": 7,
        "force": True,
        "overrides": ["train.steps=9"],
    }


def test_compiling_twice_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        compile_to(tmp_path / name, load("nightly", [f"cluster.image={IMAGE}"]))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").read_bytes().isascii()


@pytest.mark.parametrize(("name", "overrides"), [("quick", []), ("nightly", [f"cluster.image={IMAGE}"])])
def test_the_golden_copy_is_fresh(tmp_path, name, overrides):
    """`make golden` writes it again; the difference is then part of the review."""
    compile_to(tmp_path / "fresh.yaml", load(name, overrides))
    assert (tmp_path / "fresh.yaml").read_text() == (GOLDEN / f"{name}.yaml").read_text()


def test_the_first_step_is_told_the_hardware_of_the_training(tmp_path):
    """It decides the numerics, also for a profile that is chosen when a run is started."""
    overrides = [f"cluster.image={IMAGE}", "cluster.train.gpus=2", "cluster.train.cpu_limit=6500m"]
    inputs = dag(compiled(tmp_path, *overrides)[0], "comp-exit-handler-1")["download"]["inputs"]["parameters"]
    hardware = {name: inputs[name]["runtimeValue"]["constant"] for name in ("train_gpus", "train_cores")}
    assert hardware == {"train_gpus": 2, "train_cores": 6}


def test_a_training_on_a_gpu_that_the_pod_does_not_get_is_refused(tmp_path):
    with pytest.raises(Failure, match=r"train\.device is cuda.*the train step of this pipeline has none"):
        compile_to(tmp_path / "x.yaml", load("quick", ["train.device=cuda", "cluster.train.gpus=0"]))


def test_a_folder_as_corpus_is_refused(tmp_path, command):
    code, _, err = command("compile", "-o", tmp_path / "x.yaml", "--corpus", "/data/wikitext-2")
    assert (code, "no pod of a cluster can read" in err) == (ExitCode.USAGE, True)
    assert not (tmp_path / "x.yaml").exists()


def test_a_credential_is_not_compiled_in(tmp_path):
    webhook = "notify.webhook=https://hooks.slack.com/services/T0/hunter2"
    with pytest.raises(Failure, match=r"notify\.webhook holds what looks like the address of a webhook"):
        compile_to(tmp_path / "x.yaml", load("quick", [webhook]))
    assert not (tmp_path / "x.yaml").exists()


def test_the_first_profile_fits_a_laptop():
    """docs/cluster.md asks for 8 GB of free memory, of which Kubeflow Pipelines takes half."""
    cluster = load("quick", []).cluster
    places = [getattr(cluster, step) for step in ("download", *EDGES)]
    for place in places:
        assert in_bytes(place.memory_request) <= 2 << 30
        assert (place.gpus, float(place.cpu_limit) <= 4) == (0, True)


def test_an_image_by_tag_is_refused(tmp_path):
    with pytest.raises(Failure, match="by a tag"):
        compile_to(tmp_path / "x.yaml", load("quick", ["cluster.image=registry.example/wikigpt:latest"]))


def test_what_is_no_file_is_written_into_and_not_replaced(tmp_path):
    """A file with the name of a device in its place, such as /dev/null or /dev/stdout, breaks the machine."""
    pipe, link, target = tmp_path / "pipe", tmp_path / "link", tmp_path / "target"
    os.mkfifo(pipe)
    link.symlink_to(target)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 1 << 20)
    for path in (pipe, link):
        compile_to(path, load("quick", []))
    assert stat.S_ISFIFO(pipe.lstat().st_mode) and os.read(reader, 1 << 20) == target.read_bytes()
    assert link.is_symlink()
    os.close(reader)


@pytest.mark.parametrize("folder", [".", "", "made"])
def test_a_folder_is_no_file_to_write(tmp_path, monkeypatch, folder):
    (tmp_path / "made").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Failure, match="Is a directory"):
        compile_to(Path(folder), load("quick", []))
