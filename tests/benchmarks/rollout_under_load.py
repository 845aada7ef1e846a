"""A promotion by a click under load: `python -m tests.benchmarks.rollout_under_load --rate 50 --seconds 60`.

`wikigpt serve --follow` serves a tiny model by `transformers serve` behind HAProxy, and locust asks for completions of
four tokens at a steady rate. In MLflow's UI a browser clicks the alias `champion` onto a sound version, and then onto a
version whose weights are damaged. Everything runs on one machine, the browser too. The command fails if a request
fails, if an answer names no version, if the damaged version answers, or if the old one answers half a minute after the
click.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from pipelines.serving.smoke import percentile
from tests.benchmarks import record
from tests.browser import give_champion, open_browser, open_models, open_version
from tests.http_servers import free_port
from tests.registry import make_model
from tests.rollout import MODEL, Request, locust, make_home, serve_following, wait_until
from tests.servers import mlflow_server

_MOST = {
    "failed_requests": 0,
    "answers_without_a_version": 0,
    "answers_by_the_damaged_version": 0,
    "seconds_from_the_click_to_the_last_answer_by_the_old_version": 30,
}
_REFUSED = "Version 3 is not served, and version 2 goes on serving"


def main() -> None:
    """Prints and records what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=50, help="requests a second")
    parser.add_argument("--seconds", type=float, default=60, help="the shortest time of the load")
    record.add_options(parser)
    options = parser.parse_args()
    packages = ["torch", "transformers", "mlflow", "locust", "playwright"]
    recorder = record.Recorder(options, "rollout_under_load", "A promotion by a click under load", packages)
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        values = measure(Path(folder), options.rate, options.seconds)
    for name, value in values.items():
        print(f"{name.replace('_', ' ')}: {value}")
    recorder.save(values)
    if wrong := [name for name, most in _MOST.items() if values[name] > most]:
        raise SystemExit(f"Too much: {', '.join(wrong).replace('_', ' ')}.")


def measure(folder: Path, rate: float, seconds: float) -> dict[str, Any]:
    """Runs both promotions; returns the values of the record."""
    home, port, log = make_home(folder / "home", make_model(folder / "tiny", "gpt2")), free_port(), folder / "serve.log"
    client = MlflowClient(home.tracking_uri)
    with (
        mlflow_server(home.tracking_uri, folder) as mlflow,
        serve_following(home, port, log),
        open_browser() as page,
        locust(f"http://127.0.0.1:{port}", rate, folder) as load,
    ):
        started = time.time()
        open_models(page, mlflow)
        open_version(page, MODEL, "2")
        clicks: list[float] = []
        give_champion(page, "1", saving=lambda: clicks.append(time.time()))
        wait_until(lambda: load.latest() == {f"{MODEL}/2"}, "the traffic moves", log)
        page.goto(f"{mlflow}/#/models")
        open_version(page, MODEL, "3")
        give_champion(page, "2", saving=lambda: clicks.append(time.time()))
        wait_until(lambda: _REFUSED in log.read_text(), "the damaged version is refused", log)
        back = wait_until(lambda: _champion(client) == "2", "the alias is back", log)
        time.sleep(max(started + seconds - time.time(), 1))
    old = max(each.at for each in load.requests() if each.version == f"{MODEL}/1")
    return summary(load.requests(), rate) | {
        "seconds_from_the_click_to_the_last_answer_by_the_old_version": round(old - clicks[0], 1),
        "seconds_from_the_click_on_the_damaged_version_to_its_rollback": round(back - clicks[1], 1),
    }


def summary(requests: list[Request], rate: float) -> dict[str, Any]:
    """Rate, failures and latencies of the requests."""
    seconds = requests[-1].at - requests[0].at
    latencies = [request.milliseconds for request in requests]
    answers = {number: sum(each.version == f"{MODEL}/{number}" for each in requests) for number in ("1", "2", "3")}
    return {
        "requests_a_second_asked": rate,
        "requests_a_second": round(len(requests) / seconds, 1),
        "seconds": round(seconds, 1),
        "requests": len(requests),
        "failed_requests": sum(not each.success for each in requests),
        "answers_without_a_version": sum(not each.version for each in requests),
        "answers_by_version_1": answers["1"],
        "answers_by_version_2": answers["2"],
        "answers_by_the_damaged_version": answers["3"],
        "p50_milliseconds": round(percentile(latencies, 0.5)),
        "p99_milliseconds": round(percentile(latencies, 0.99)),
    }


def _champion(client: MlflowClient) -> str:
    return str(client.get_model_version_by_alias(MODEL, "champion").version)


if __name__ == "__main__":
    main()
