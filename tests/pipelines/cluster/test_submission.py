"""Starting a run: it is refused before anything is sent, its pipeline is uploaded once, and it starts once."""

from dataclasses import replace

import pytest

from components.shared.base.failure import ExitCode, Failure
from pipelines.cluster.access import Access
from pipelines.cluster.connection import connect
from pipelines.cluster.submission import Package, package, submit
from pipelines.config.parameters import RunParameters
from tests.kfp_stand_in.server import Fault
from tests.pipelines.cluster.conftest import IMAGE

SENT = {
    "parameters": {"profile": "nightly", "overrides": ["train.steps=200"]},
    "service_account": "wikigpt",
    "profile": "nightly",
}


@pytest.fixture
def sent(ir):
    return Package(ir=ir.read_bytes(), **SENT)


def test_a_run_is_started_from_an_uploaded_version(cluster, stand_in, sent):
    submitted = submit(cluster, sent)
    run = stand_in.state.runs[submitted.run_id]
    assert run["runtime_config"] == {"parameters": SENT["parameters"]}
    assert run["service_account"] == "wikigpt"
    assert run["pipeline_version_reference"]["pipeline_version_id"] == submitted.version.version_id
    assert submitted.run_name.startswith("nightly-")
    assert submitted.address == f"{stand_in.url}/#/runs/details/{submitted.run_id}"
    (experiment,) = stand_in.state.experiments.values()
    assert (experiment["display_name"], run["experiment_id"]) == ("wikigpt", experiment["experiment_id"])


def test_the_same_pipeline_is_never_uploaded_twice(cluster, stand_in, sent, ir):
    first = submit(cluster, sent)
    second = submit(cluster, Package(sent.ir, {"profile": "quick"}, None, "nightly"))
    assert (first.version.uploaded, second.version.uploaded) == (True, False)
    assert stand_in.requests.count("UploadPipelineVersion") == 1
    changed = submit(cluster, Package(sent.ir + b"# another\n", SENT["parameters"], None, "nightly"))
    assert changed.version.uploaded
    assert changed.version.name != first.version.name
    assert len(stand_in.state.pipelines) == 1


def test_a_version_is_found_among_hundreds(cluster, stand_in, sent):
    first = submit(cluster, sent)
    for number in range(150):
        other = {**stand_in.state.versions[first.version.version_id], "name": f"other-{number}"}
        stand_in.state.versions = {str(number): other, **stand_in.state.versions}
    assert not submit(cluster, sent).version.uploaded


@pytest.mark.parametrize(
    "operation",
    ["CreatePipeline", "UploadPipelineVersion", "CreateExperiment", "CreateRun"],
)
def test_an_answer_that_is_lost_makes_nothing_twice(cluster, stand_in, sent, operation):
    stand_in.faults.append(Fault("lost", operation))
    submitted = submit(cluster, sent)
    state = stand_in.state
    assert [len(kind) for kind in (state.pipelines, state.versions, state.experiments, state.runs)] == [1, 1, 1, 1]
    assert submitted.run_id in state.runs


def test_a_namespace_that_does_not_exist_is_refused_before_anything_is_made(stand_in, kubeconfig, sent):
    with pytest.raises(Failure, match=r"There is no namespace 'nowhere' .*KF_PIPELINES_KUBE_CONTEXT") as caught:
        submit(connect(replace(kubeconfig, namespace="nowhere")), sent)
    assert caught.value.exit_code is ExitCode.USAGE
    assert stand_in.changes == []
    assert submit(connect(replace(kubeconfig, namespace="kubeflow")), sent).run_id in stand_in.state.runs


def test_a_namespace_that_nobody_can_tell_about_is_accepted(stand_in, kubeconfig, sent):
    stand_in.state.kubernetes.forbidden = {"namespaces"}
    assert submit(connect(replace(kubeconfig, namespace="nowhere")), sent).run_id in stand_in.state.runs


def test_without_a_kubeconfig_a_server_for_one_user_accepts_any_namespace(stand_in, sent):
    """This was observed: the server starts the run in its own namespace."""
    cluster = connect(Access(endpoint=stand_in.url, namespace="nowhere", timeout=5))
    assert submit(cluster, sent).run_id in stand_in.state.runs


@pytest.mark.parametrize("kind", ["error", "drop"])
def test_a_run_that_was_not_started_is_a_failure(cluster, stand_in, sent, kind):
    stand_in.faults.append(Fault(kind, "CreateRun", times=9))
    with pytest.raises(Failure) as caught:
        submit(cluster, sent)
    assert caught.value.exit_code is ExitCode.UNREACHABLE
    assert stand_in.state.runs == {}


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["cluster.image=registry.example/wikigpt:latest"], "by a tag, which may name other bytes"),
        (["cluster.image=registry.example/wikigpt@sha256:abc"], "a digest that is not sha256: and 64 hex digits"),
        ([], "No image is named"),
        ([f"cluster.image={IMAGE}", "download.corpus=/data/corpus"], "no pod of a cluster can read"),
        ([f"cluster.image={IMAGE}", "download.corpus=corpus"], "no pod of a cluster can read"),
        ([f"cluster.image={IMAGE}", "tokenize.tokenizer=./tokenizer"], "no pod of a cluster can read"),
        ([f"cluster.image={IMAGE}", "notify.token=hunter2"], "notify.token holds what looks like a credential"),
        ([f"cluster.image={IMAGE}", "download.api_key=hunter2"], "download.api_key holds what looks like"),
        (
            [f"cluster.image={IMAGE}", "download.corpus=https://me:hunter2@corpora.example/c.zip"],
            "download.corpus holds what looks like a credential",
        ),
        (
            [f"cluster.image={IMAGE}", "notify.webhook=https://hooks.slack.com/services/T0/hunter2"],
            "notify.webhook holds what looks like the address of a webhook",
        ),
    ],
)
def test_what_is_refused_before_anything_is_sent(overrides, sentence):
    with pytest.raises(Failure, match=sentence) as caught:
        package("quick", overrides)
    assert caught.value.exit_code is ExitCode.USAGE
    assert "hunter2" not in str(caught.value)


def test_a_folder_of_the_profile_may_be_replaced_for_a_run(tmp_path):
    profile = tmp_path / "mine.yaml"
    profile.write_text("train: {steps: 5, pretrained: /data/weights}\ndownload: {corpus: /data/text}\n")
    overrides = [f"cluster.image={IMAGE}", "train.pretrained=s3://bucket/weights"]
    parameters = package(str(profile), overrides, corpus="s3://bucket/corpus").parameters
    assert parameters["corpus"] == "s3://bucket/corpus"
    assert "train.pretrained=s3://bucket/weights" in parameters["overrides"]


def test_what_one_run_sets_does_not_change_what_is_compiled():
    base = [f"cluster.image={IMAGE}", "cluster.s3_secret=team-s3"]
    one = package("quick", base)
    other = package("quick", [*base, "train.steps=17"], corpus="s3://bucket/corpus")
    assert one.ir == other.ir
    assert other.parameters == RunParameters(corpus="s3://bucket/corpus", overrides=["train.steps=17"]).to_dict()
    assert b"team-s3" in one.ir


def test_a_run_that_must_sign_its_version_and_has_no_key_is_refused_before_anything_is_sent() -> None:
    without = [f"cluster.image={IMAGE}", "cluster.signing_secret=null"]
    with pytest.raises(Failure, match=r"must be signed .*no key is named.*cluster\.signing_secret") as caught:
        package("nightly", without)
    assert caught.value.exit_code is ExitCode.USAGE
    for key in ("register.signing=never", "register.signing_key=/keys/key.pem", "cluster.signing_secret=mine"):
        assert package("nightly", [*without, key]).profile == "nightly"
