"""The stand-in is compared with the answers of a real Kubeflow Pipelines 2.17.0, field by field."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from tests.kfp_stand_in.api import PUBLISHED, Api
from tests.kfp_stand_in.kubernetes import log_through_pipelines
from tests.kfp_stand_in.recorded import FOLDER, is_excerpt, recorded, recorded_log
from tests.kfp_stand_in.server import StandIn, serving
from tests.kfp_stand_in.state import details_of

NOBODY = "00000000-0000-0000-0000-000000000000"
RUNS = sorted(path.stem.removeprefix("run-") for path in FOLDER.glob("rest/run-*.json") if "state" in path.read_text())


@pytest.fixture(scope="session")
def whole(real_data: Path) -> Path:
    """The folder of the whole recordings."""
    folder = real_data / "kfp-recorded"
    if not folder.is_dir():
        pytest.skip(f"no recordings here: {folder}")
    return folder


@pytest.fixture
def server():
    with serving() as stand_in:
        yield stand_in


@dataclass
class Answer:
    status: int
    body: Any


def ask(server: StandIn, method: str, path: str, body: Any = None, raw: bytes | None = None) -> Answer:
    headers = {"Content-Type": "application/json"} if raw else {}
    options = {"json": body} if body is not None else {"body": raw, "headers": headers}
    answer = urllib3.request(method, f"{server.url}/apis/v2beta1/{path}", **options)
    return Answer(answer.status, json.loads(answer.data))


def shape(value: Any) -> Any:
    """A document without its values: the keys, and the JSON type of each."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(entry) for entry in value]
    return type(value).__name__


def of_entries(document: dict, key: str) -> set[str]:
    """The distinct shapes of the entries of a list."""
    return {json.dumps(shape(entry), sort_keys=True) for entry in document[key]}


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.*")), ids=lambda path: path.name)
def test_an_excerpt_is_the_recording_with_parts_left_out(path: Path, whole: Path):
    original = whole / path.relative_to(FOLDER)
    if path.name == "task-details.json":
        details = json.loads((whole / "rest/run-canceled.json").read_text())["run_details"]["task_details"]
        assert is_excerpt(json.loads(path.read_text()), details)
    elif path.suffix == ".http":
        lines = original.read_text().replace("\r\n", "\n").split("\n")
        assert is_excerpt(path.read_text().split("\n"), lines)
    else:
        source = original if original.is_file() else original.with_suffix(".yaml")
        document = yaml.load(source.read_text(), yaml.CSafeLoader)
        document = document["items"][0] if "items" in document else document
        assert is_excerpt(json.loads(path.read_text()), _with_texts(document))


def _with_texts(value: Any) -> Any:
    """YAML reads an unquoted time as a date, which was text in JSON."""
    return json.loads(json.dumps(value, default=lambda moment: f"{moment:%Y-%m-%dT%H:%M:%SZ}"))


def test_the_api_is_judged_by_the_published_description(real_data: Path):
    path = real_data / "kfp-api-v2beta1.swagger.json"
    if not path.is_file():
        pytest.skip(f"no published API here: {path}")
    ours, published = json.loads(PUBLISHED.read_text()), json.loads(path.read_text())
    assert is_excerpt(ours, published)
    for name, schema in ours["definitions"].items():
        whole = published["definitions"][name]
        assert schema.get("properties", {}).keys() == whole.get("properties", {}).keys(), name
        assert schema.get("enum") == whole.get("enum"), name
    for address, methods in ours["paths"].items():
        for method, operation in methods.items():
            whole = published["paths"][address][method]
            assert len(operation.get("parameters", ())) == len(whole.get("parameters", ())), address


def test_what_was_changed_is_no_excerpt():
    whole = {"state": "FAILED", "nodes": [{"a": 1}, {"b": 2}]}
    assert is_excerpt({"nodes": [{"b": 2}]}, whole)
    for other in ({"state": "CANCELED"}, {"nodes": [{"b": 2}, {"a": 1}]}, {"more": 1}):
        assert not is_excerpt(other, whole)


def test_the_recordings_fit_the_published_api_but_for_the_health(whole: Path, real_data: Path):
    api = Api(real_data / "kfp-api-v2beta1.swagger.json")
    lines = [line.split(maxsplit=3) for line in (whole / "rest/index.txt").read_text().splitlines()]
    judged = 0
    for name, status, _, address in lines:
        path = whole / "rest" / name
        operation = api.operation("GET", address.partition("?")[0])
        if path.is_file() and status == "200" and operation:
            judged += 1
            assert api.wrong_in_answer(operation, json.loads(path.read_text())) == [], name
        elif path.is_file() and status != "200" and name != "pipeline-upload-nothing.json":
            judged += 1
            assert api.wrong_in_error(json.loads(path.read_text())) == [], name
    assert judged > 30
    health = json.loads((whole / "rest/healthz.json").read_text())
    assert api.wrong_in(api.operation("GET", "/apis/v2beta1/healthz").answer, health) != []


@pytest.mark.parametrize(
    ("name", "status", "method", "path", "body"),
    [
        ("run-missing", 404, "GET", f"runs/{NOBODY}", None),
        ("run-id-not-a-uuid", 404, "GET", "runs/nonsense", None),
        ("pipeline-missing", 404, "GET", f"pipelines/{NOBODY}", None),
        ("recurring-run-missing", 404, "GET", f"recurringruns/{NOBODY}", None),
        ("recurring-run-missing-delete", 404, "DELETE", f"recurringruns/{NOBODY}", None),
        ("bad-filter", 400, "GET", "runs?filter=notjson", None),
        ("bad-page-size", 400, "GET", "runs?page_size=-3", None),
        ("bad-create", 500, "POST", "runs", {"display_name": "x"}),
        ("bad-recurring-create", 400, "POST", "recurringruns", {"display_name": "x"}),
        ("recurring-runs-empty", 200, "GET", "recurringruns", None),
        ("healthz", 200, "GET", "healthz", None),
    ],
)
def test_an_answer_is_the_recorded_one(server, name, status, method, path, body):
    answer = ask(server, method, path, body)
    assert (answer.status, answer.body) == (status, recorded(f"rest/{name}"))


def test_a_body_that_breaks_off_and_an_upload_of_nothing(server):
    cut = ask(server, "POST", "runs", raw=b'{"display_name"')
    assert (cut.status, cut.body) == (400, recorded("rest/bad-json"))
    nothing = ask(server, "POST", "pipelines/upload")
    assert (nothing.status, nothing.body) == (400, recorded("rest/pipeline-upload-nothing"))


def test_a_run_that_is_over_cannot_be_terminated(server):
    recording = recorded("rest/terminate-finished-run")
    identity = recording["details"][0]["message"].split()[5].rstrip(".")
    server.state.add_run("succeeded", run_id=identity)
    ask(server, "GET", f"runs/{identity}")
    answer = ask(server, "POST", f"runs/{identity}:terminate", {})
    assert (answer.status, answer.body) == (400, recording)


def test_the_history_of_a_cancelled_run_ends_in_canceling_and_failed(server):
    run = server.state.add_run("running")["run_id"]
    ask(server, "GET", f"runs/{run}")
    assert ask(server, "POST", f"runs/{run}:terminate", {}).body == {}
    assert ask(server, "GET", f"runs/{run}").body["state"] == recorded("rest/run-canceling")["state"] == "CANCELING"
    ended = ask(server, "GET", f"runs/{run}").body
    expected = recorded("rest/run-canceled")
    history = [entry["state"] for entry in expected["state_history"]]
    assert ended["state"] == expected["state"] == "FAILED"
    assert [entry["state"] for entry in ended["state_history"]] == history
    assert history[-2:] == ["CANCELING", "FAILED"]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_has_the_recorded_fields(server, name):
    run = server.state.add_run(name, experiment_id="", service_account="")
    reference = {"pipeline_id": "", "pipeline_version_id": ""}
    run["pipeline_version_reference"] = reference
    answer = ask(server, "GET", f"runs/{run['run_id']}").body
    expected = recorded(f"rest/run-{name}")
    without = {"run_details": {}, "state_history": []}
    assert shape({**answer, **without}) == shape({**expected, **without})
    assert of_entries(answer, "state_history") == of_entries(expected, "state_history")


@pytest.mark.parametrize("name", RUNS)
def test_the_nodes_of_a_run_have_the_recorded_fields(name, whole):
    """A node that was omitted has no state at all, and only the identities of children name pods."""
    original = json.loads((whole / f"rest/run-{name}.json").read_text())["run_details"]["task_details"]
    shapes = {json.dumps(sorted(node)) for node in original}
    assert {json.dumps(sorted(node)) for node in details_of(name, "a-run")} <= shapes
    for node in original:
        assert "pod_name" not in node
        assert ("state" in node) == any("state" in entry for entry in node["state_history"])


def test_lists_have_the_recorded_fields(server):
    state = server.state
    ask(server, "POST", "pipelines", {"name": "wikigpt", "display_name": "wikigpt"})
    ask(server, "POST", "experiments", {"display_name": "wikigpt"})
    for number in range(3):
        state.add_run(display_name=str(number), experiment_id="x", service_account="x", state="RUNNING")
    for path, name, key in (
        ("pipelines", "pipeline-by-name", "pipelines"),
        ("experiments", "experiments", "experiments"),
        ("runs?page_size=2", "list-runs", "runs"),
    ):
        answer, recording = ask(server, "GET", path).body, recorded(f"rest/{name}")
        assert shape({**answer, key: []}) == shape({**recording, key: []})
        assert set().union(*answer[key]) <= set().union(*recording[key])
    newest = [run["created_at"] for run in recorded("rest/list-runs")["runs"]]
    assert newest == sorted(newest, reverse=True)


def test_a_schedule_has_the_recorded_fields(server):
    wanted = recorded("rest/recurring-run-get")
    given = ("display_name", "description", "pipeline_version_reference", "service_account", "max_concurrency")
    body = {key: wanted[key] for key in (*given, "trigger", "mode", "no_catchup", "experiment_id")}
    made = ask(server, "POST", "recurringruns", body).body
    identity = made["recurring_run_id"]
    assert shape(ask(server, "GET", f"recurringruns/{identity}").body) == shape(wanted)
    assert shape(ask(server, "GET", "recurringruns").body) == shape(recorded("rest/recurring-run-list-one"))
    answer = ask(server, "POST", f"recurringruns/{identity}:disable", {}).body
    assert answer == recorded("rest/recurring-run-disable-answer")
    disabled = ask(server, "GET", f"recurringruns/{identity}").body
    expected = recorded("rest/recurring-run-get-disabled")
    assert [(disabled[key], expected[key]) for key in ("mode", "status")] == [("DISABLE",) * 2, ("DISABLED",) * 2]
    assert ask(server, "DELETE", f"recurringruns/{identity}").body == {}
    gone = ask(server, "GET", f"recurringruns/{identity}")
    recording = recorded("rest/recurring-run-get-after-delete")
    assert (gone.status, json.dumps(gone.body)) == (
        404,
        json.dumps(recording).replace(recording["message"].split()[-3], identity),
    )


@pytest.mark.parametrize(
    ("name", "run", "pod", "exists"),
    [
        ("log-of-missing-run", NOBODY, "any", False),
        (
            "log-of-deleted-pod",
            "aeafc74c-b174-4fbe-8e6a-bbbec733ff51",
            "tiny9hgpc-1-1152188196-system-container-impl-1267791158",
            True,
        ),
    ],
)
def test_a_missing_log_is_an_error_with_status_200(server, name, run, pod, exists):
    if exists:
        server.state.add_run(run_id=run)
    answer = urllib3.request("GET", f"{server.url}/apis/v1alpha1/runs/{run}/nodes/{pod}/log")
    headers, body = recorded_log(name)
    assert (answer.status, answer.headers["Content-Type"]) == (200, headers["Content-Type"])
    assert headers["status"] == "HTTP/1.1 200 OK"
    assert json.loads(answer.data) == json.loads(body)
    assert json.loads(body).keys() == {"error_message", "error_details"}


def test_events_are_empty_lines_in_the_log_that_the_server_gives(server):
    """In the recording each line that a step printed as an event is empty, so no event can be read there."""
    body = recorded_log("log-of-failed-train-pod")[1]
    assert '{"event"' not in body
    assert "\n\n\nThe loss is 7.803908348083496 in step 4" in body
    server.state.kubernetes.logs["a-pod"] = 'first\n\n{"event": "step-started", "step": "train"}\nlast\n'
    assert log_through_pipelines(server.state.kubernetes, "a-run", "a-pod", run_exists=True) == "first\n\nlast\n"


def test_a_schedule_owns_the_workflows_of_its_runs(server):
    """A ScheduledWorkflow has the identity of its recurring run; its deletion deletes the Workflows of its runs."""
    schedule = recorded("k8s/scheduledworkflow")
    assert schedule["metadata"]["uid"] == recorded("rest/recurring-run-get")["recurring_run_id"]
    for policy, lives in (("", False), ("?propagation_policy=ORPHAN", True)):
        server.state.recurring["a-schedule"] = {"recurring_run_id": "a-schedule", "created_at": ""}
        run = server.state.add_run("running", "succeeded", recurring_run_id="a-schedule")["run_id"]
        ask(server, "GET", f"runs/{run}")
        ask(server, "DELETE", f"recurringruns/a-schedule{policy}")
        assert (run in server.state.kubernetes.workflows) is lives
        seen = {ask(server, "GET", f"runs/{run}").body["state"] for _ in range(3)}
        assert seen == ({"SUCCEEDED"} if lives else {"RUNNING"})
