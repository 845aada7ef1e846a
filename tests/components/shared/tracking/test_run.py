"""One MLflow run per pipeline run, whatever is injected; faults of the server; a user who is not an administrator."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from components.shared.base.failure import ExitCode, Failure
from components.shared.tracking import registry
from components.shared.tracking import run as tracking
from components.shared.tracking.run import (
    INJECTED_RUN_TAG,
    Tracking,
    connect,
    translate_mlflow_errors,
    use_own_variables,
)
from tests.http_servers import serving

# The whole bodies of the answers of a real MLflow with basic auth.
RECORDED = json.loads((Path(__file__).parent / "recorded_mlflow.json").read_text())


class Server:
    """Answers requests with scripted responses, of which the last one repeats; counts the requests by path."""

    def __init__(self) -> None:
        self.scripts: dict[str, list[dict]] = {}
        self.asked: list[str] = []
        self.url = ""

    def script(self, path: str, *answers: dict) -> None:
        self.scripts[path] = list(answers)

    def answer(self, path: str) -> dict:
        self.asked.append(path)
        left = self.scripts[path]
        return left.pop(0) if len(left) > 1 else left[0]


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    scripted = Server()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            key = address.path.rpartition("/mlflow/")[2]
            if parse_qs(address.query).get("max_results") == ["1"] and key == "experiments/search":
                key = "probe"
            answer = scripted.answer(key)
            if answer.get("drop"):
                self.close_connection = True
                self.connection.close()
                return
            body = answer["body"].encode()
            self.send_response(answer["status"])
            self.send_header("Content-Type", answer["content_type"])
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    scripted.script("probe", ok("{}"))
    with serving(Handler) as scripted.url:
        yield scripted


def ok(body: str) -> dict:
    return {"status": 200, "content_type": "application/json", "body": body}


DROPPED = {"drop": True}
UNAVAILABLE = {"status": 503, "content_type": "text/html", "body": "<h1>503</h1>"}


# ---- looking up what may be absent, as a user who is not an administrator


@pytest.mark.parametrize(
    ("alias", "model"),
    [
        ("alias-of-missing-model-admin", None),
        ("alias-of-missing-model-pipeline-user", "get-missing-model-pipeline-user"),
        ("missing-alias-of-existing-model-pipeline-user", None),
    ],
)
def test_an_alias_that_is_absent_is_absent_for_every_user(server, alias, model):
    server.script("registered-models/alias", RECORDED[alias])
    if model:
        server.script("registered-models/get", RECORDED[model])
    assert registry.version_with_alias(connect(server.url), "wikigpt-nothere", "champion") is None


def test_a_model_that_exists_and_that_the_user_may_not_read_is_refused_with_a_reason(server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "pipeline")
    server.script("registered-models/alias", RECORDED["alias-of-missing-model-pipeline-user"])
    server.script("registered-models/get", RECORDED["alias-of-missing-model-pipeline-user"])
    client = connect(server.url)
    refusal = r"MLflow does not permit this to pipeline.*grant the permission"
    with pytest.raises(Failure, match=refusal) as caught, translate_mlflow_errors(client):
        registry.version_with_alias(client, "wikigpt", "champion")
    assert caught.value.exit_code is ExitCode.UNAUTHORISED


def test_a_wrong_password_is_reported_as_such(server):
    server.script("probe", RECORDED["wrong-password"])
    with pytest.raises(Failure, match="MLflow refused the credentials"):
        connect(server.url)


def test_the_recorded_responses_equal_those_of_a_real_server(real_data):
    for name, answer in RECORDED.items():
        recorded = (real_data / "kfp-recorded" / "mlflow" / f"{name}.http").read_bytes().decode()
        head, _, body = recorded.replace("\r\n", "\n").partition("\n\n")
        assert answer["body"] == body
        assert f" {answer['status']} " in head.splitlines()[0]
        assert f"content-type: {answer['content_type']}" in head


# ---- a server with transient errors


@pytest.mark.parametrize(
    "stumbles", [[DROPPED], pytest.param([UNAVAILABLE, DROPPED, UNAVAILABLE], marks=pytest.mark.slow)]
)
def test_a_step_waits_for_a_server_that_fails_temporarily(server, stumbles):
    server.script("probe", *stumbles, ok("{}"))
    connect(server.url, patience=30)
    assert server.asked == ["probe"] * (len(stumbles) + 1)


def test_a_command_does_not_wait_for_an_unreachable_server(server):
    server.script("probe", DROPPED)
    with pytest.raises(Failure, match="MLflow does not answer") as caught:
        connect(server.url)
    assert caught.value.exit_code is ExitCode.UNREACHABLE
    assert server.asked == ["probe"]


def test_wrong_credentials_are_not_retried(server):
    server.script("probe", RECORDED["wrong-password"])
    with pytest.raises(Failure):
        connect(server.url, patience=30)
    assert server.asked == ["probe"]


def test_neither_user_nor_password_of_an_address_is_shown(monkeypatch):
    with pytest.raises(Failure) as caught:
        connect("http://ada:s3cret@127.0.0.1:9/mlflow")
    assert "s3cret" not in str(caught.value) and "ada" not in str(caught.value)


# ---- MLflow's plugin of Kubeflow Pipelines 2.17 (KEP-12862)


@pytest.fixture
def plugin(tracking_uri, monkeypatch):
    """Acts like the plugin: creates a run for the pipeline run and one below it per task, and sets the variables."""
    client = MlflowClient(tracking_uri)

    def plugin(experiment="wikigpt"):
        known = client.get_experiment_by_name(experiment)
        place = known.experiment_id if known else client.create_experiment(experiment)
        parent = client.create_run(place).info.run_id

        def start_task():
            task = client.create_run(place, tags={MLFLOW_PARENT_RUN_ID: parent}).info.run_id
            monkeypatch.setenv("MLFLOW_RUN_ID", task)
            monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", place)

        return parent, start_task

    return plugin


def ours(uri, pipeline_run):
    client = MlflowClient(uri)
    every = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(every, f"tags.`{tracking.PIPELINE_RUN_TAG}` = '{pipeline_run}'")


def test_seven_tasks_write_to_one_run_below_that_of_the_plugin(tracking_uri, plugin):
    parent, start_task = plugin()
    opened = set()
    for _ in range(7):
        start_task()
        opened.add(Tracking.open("run-1").run_id)
    (run,) = ours(tracking_uri, "run-1")
    assert opened == {run.info.run_id}
    assert run.data.tags[MLFLOW_PARENT_RUN_ID] == run.data.tags[INJECTED_RUN_TAG] == parent


def test_a_run_in_another_experiment_is_linked_and_not_nested(tracking_uri, plugin):
    parent, start_task = plugin("KFP's own")
    start_task()
    Tracking.open("run-1")
    (run,) = ours(tracking_uri, "run-1")
    assert MLFLOW_PARENT_RUN_ID not in run.data.tags
    assert run.data.tags[INJECTED_RUN_TAG] == parent


def test_an_injected_run_of_another_server_is_named(tracking_uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    Tracking.open("run-1")
    (run,) = ours(tracking_uri, "run-1")
    assert run.data.tags[INJECTED_RUN_TAG] == "0" * 32


def test_a_placed_step_uses_its_own_address_and_credentials(monkeypatch):
    injected = {
        "MLFLOW_TRACKING_URI": "http://plugin",
        "MLFLOW_TRACKING_AUTH": "kubernetes",
        "MLFLOW_TRACKING_TOKEN": "theirs",
        "MLFLOW_TRACKING_USERNAME": "theirs",
        "MLFLOW_WORKSPACE": "team-a",
    }
    own = {"URI": "http://ours", "USERNAME": "pipeline", "PASSWORD": "p"}
    for name, value in [*injected.items(), *((f"WIKIGPT_MLFLOW_TRACKING_{k}", v) for k, v in own.items())]:
        monkeypatch.setenv(name, value)
    use_own_variables()
    assert tracking.os.environ["MLFLOW_TRACKING_URI"] == "http://ours"
    assert tracking.os.environ["MLFLOW_TRACKING_USERNAME"] == "pipeline"
    assert tracking.os.environ["MLFLOW_TRACKING_PASSWORD"] == "p"
    assert tracking.os.environ["MLFLOW_WORKSPACE"] == "team-a"
    assert not {"MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_TOKEN"} & tracking.os.environ.keys()


def test_on_a_laptop_the_variables_of_mlflow_are_left_alone(monkeypatch):
    monkeypatch.delenv("WIKIGPT_MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://laptop")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "mine")
    use_own_variables()
    assert tracking.os.environ["MLFLOW_TRACKING_URI"] == "http://laptop"
    assert tracking.os.environ["MLFLOW_TRACKING_TOKEN"] == "mine"


@pytest.mark.parametrize("name", ["it's one", 'a "quoted" one', "both ' and \"", "ends in \\"])
def test_a_run_of_any_name_is_found_again(tracking_uri, name):
    made = Tracking.open(name)
    assert Tracking.open("another").run_id != made.run_id
    assert Tracking.open(name).run_id == made.run_id
