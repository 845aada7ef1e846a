"""The pod of a step is found from a node of the workflow, as in recorded workflows, runs and pods."""

import json
from pathlib import Path

import pytest
import yaml

from pipelines.cluster.nodes import node_id, pod_name, template_of
from pipelines.cluster.runs import parse_run
from pipelines.steps import STEPS
from tests.kfp_stand_in.recorded import recorded
from tests.pipelines.cluster.test_runs import NOW, as_run

IMPL = "metadata-0-2-retry-system-container-impl"


def workflow() -> dict:
    return recorded("k8s/workflow-succeeded")["status"]["nodes"]


def test_the_identity_of_a_longer_name_follows_from_that_of_its_beginning():
    nodes = workflow()
    by_name = {node["name"]: identity for identity, node in nodes.items()}
    pairs = [(short, long) for short in by_name for long in by_name if long != short and long.startswith(short)]
    assert len(pairs) > 20
    for short, long in pairs:
        assert node_id(by_name[short], long.removeprefix(short)) == by_name[long]


@pytest.mark.parametrize("root", ["wikigpt-t2fph", "wikigpt", ""])
def test_the_root_of_a_workflow_has_no_hash(root):
    assert node_id(root, "(0)") is None


def test_the_pods_that_the_api_leads_to_are_those_of_the_workflow():
    nodes = workflow()
    status = parse_run(as_run(recorded("rest/run-succeeded")), NOW)
    document = recorded("rest/pipeline-version")["pipeline_spec"]
    for step in STEPS:
        (pod,) = status.step(step).nodes
        assert (nodes[pod]["type"], nodes[pod]["displayName"]) == ("Pod", "executor(0)")
        assert f".{step}(0).executor(0)" in nodes[pod]["name"]
        assert nodes[pod]["templateName"] == template_of(step, document) == IMPL


@pytest.mark.parametrize(
    ("run", "pod"),
    [("running", "train-pod"), ("pending-unschedulable", "pod-unschedulable"), ("canceled", "train-pod")],
)
def test_the_name_of_a_pod_is_the_recorded_one(run, pod):
    (node,) = parse_run(as_run(recorded(f"rest/run-{run}")), NOW).step("train").nodes
    assert pod_name(node, IMPL) == recorded(f"k8s/{pod}")["metadata"]["name"]


def test_each_attempt_of_a_step_is_a_pod_also_where_its_dag_was_repeated():
    train = parse_run(as_run(recorded("rest/run-canceling-for-ever")), NOW).step("train")
    ending = "retry-default-limit-2-always-multiplied-then-cancel-hangs"
    attempts = [
        node["displayName"]
        for node in recorded("k8s/workflow-nodes-by-ending")[ending]["nodes"]
        if node["displayName"].startswith("executor(")
    ]
    assert len(train.nodes) == len(set(train.nodes)) == len(attempts) == 6


def test_every_pod_of_every_recorded_run_is_found(real_data: Path):
    paths = sorted((real_data / "kfp-recorded/rest").glob("run-*.json"))
    if not paths:
        pytest.skip("no recordings here")
    for path in paths:
        document = json.loads(path.read_text())
        details = document.get("run_details", {}).get("task_details", ())
        executors = [detail for detail in details if detail["display_name"] == "executor"]
        named = {child["pod_name"] for detail in executors for child in detail.get("child_tasks", ())}
        found = {node for step in parse_run(as_run(document), NOW).steps for node in step.nodes} if details else set()
        assert found == named, path.name


@pytest.mark.parametrize(("values", "labels"), [({}, 2), ({"queue": "gpus"}, 3)])
def test_the_template_follows_from_what_we_compile(compiled, values, labels):
    pipeline, platform = compiled(**values)
    document = {"pipeline_spec": pipeline, "platform_spec": platform}
    task = "work-2"  # the training of the small pipeline
    assert template_of(task, document) == IMPL.replace("-2-", f"-{labels}-")
    assert template_of("unknown", document) is None


def test_a_pipeline_without_retries_or_labels_has_the_plain_template():
    task = {"componentRef": {"name": "comp-work"}}
    pipeline = {"root": {"dag": {"tasks": {"work": task}}}, "components": {"comp-work": {"executorLabel": "exec-work"}}}
    assert template_of("work", {"pipeline_spec": pipeline}) == "system-container-impl"


def test_the_whole_recorded_version_has_the_same_templates(real_data: Path):
    path = real_data / "kfp-recorded/rest/pipeline-version.json"
    if not path.is_file():
        pytest.skip(f"no recording here: {path}")
    document = json.loads(path.read_text())["pipeline_spec"]
    assert {template_of(step, document) for step in STEPS} == {IMPL}
    whole = yaml.load((real_data / "kfp-recorded/k8s/workflow-succeeded.yaml").read_text(), yaml.CSafeLoader)
    assert IMPL in {template["name"] for template in whole["spec"]["templates"]}
