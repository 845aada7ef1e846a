"""A person clicks `champion` onto another version in MLflow's UI, and the traffic moves without a failed request.

The engine, the proxy, the load generator, the registry and the browser are the real ones. `python -m
tests.benchmarks.rollout_under_load` does the same for longer and writes down what it measured.
"""

import importlib.util
import shutil
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.browser import NEEDS_BROWSER, give_champion, open_browser, open_models, open_version
from tests.http_servers import free_port
from tests.rollout import MODEL, locust, make_home, serve_following, wait_until
from tests.servers import mlflow_server

RATE = 50  # requests a second
WITHIN = 60  # seconds from the click to the last answer by the old version; beside other tests, not the benchmark's 30

pytestmark = [
    pytest.mark.slow,
    *NEEDS_BROWSER,
    pytest.mark.skipif(
        not (shutil.which("haproxy") or Path("/usr/sbin/haproxy").exists()),
        reason="no HAProxy here: install Debian's package haproxy",
    ),
    pytest.mark.skipif(importlib.util.find_spec("locust") is None, reason="no locust here: pip install it"),
]


def test_traffic_follows_a_click_and_a_damaged_version_is_taken_back(hugging_face_folder: Path, tmp_path: Path) -> None:
    home, port, log = make_home(tmp_path / "home", hugging_face_folder), free_port(), tmp_path / "serve.log"
    client = MlflowClient(home.tracking_uri)
    with (
        mlflow_server(home.tracking_uri, tmp_path) as mlflow,
        serve_following(home, port, log),
        open_browser() as page,
        locust(f"http://127.0.0.1:{port}", RATE, tmp_path) as load,
    ):
        open_models(page, mlflow)
        open_version(page, MODEL, "2")
        wait_until(lambda: load.latest() == {f"{MODEL}/1"}, "version 1 answers", log)
        clicks: list[float] = []
        give_champion(page, "1", saving=lambda: clicks.append(time.time()))
        moved = wait_until(lambda: load.latest() == {f"{MODEL}/2"}, "the traffic moves", log)
        assert moved - clicks[0] < WITHIN

        page.goto(f"{mlflow}/#/models")
        open_version(page, MODEL, "3")
        give_champion(page, "2")
        refused = "Version 3 is not served, and version 2 goes on serving: The smoke test failed"
        wait_until(lambda: refused in log.read_text(), "the damaged version is refused", log)
        wait_until(
            lambda: str(client.get_model_version_by_alias(MODEL, "champion").version) == "2", "the alias is back", log
        )
        time.sleep(1)
    requests = load.requests()
    assert [request for request in requests if not request.success or not request.version] == []
    assert list(dict.fromkeys(request.version for request in requests)) == [f"{MODEL}/1", f"{MODEL}/2"]
    assert len(requests) > 10 * RATE
    assert "wikigpt.rollout_failed" in client.get_model_version(MODEL, "3").tags
