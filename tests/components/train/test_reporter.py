"""Metrics reach MLflow when it can be reached, and training never waits for it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.shared.base.failure import Interrupted
from components.shared.runtime.step import Step
from components.shared.tracking.run import Tracking
from components.train.reporter import MetricsReporter
from components.train.run import run
from tests.components.train.conftest import tiny_step

ROW = {"loss": 2.5, "learning_rate": 1e-3, "gradient_norm": 0.5, "tokens_per_second": 100.0}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One database for all tests of this module, because creating one takes longer than the tests."""
    return f"sqlite:///{tmp_path_factory.mktemp('tracking') / 'mlflow.db'}"


@pytest.fixture(autouse=True)
def with_mlflow(here: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    yield


def metric(run_name: str, key: str) -> list[tuple[int, float]]:
    tracking = Tracking.open(run_name)
    return [(point.step, point.value) for point in tracking.client.get_metric_history(tracking.run_id, key)]


def test_the_curve_of_a_training_is_in_mlflow(here: Path, tokens_dir: Path) -> None:
    run(tiny_step("curve"), "f" * 32, tokens_dir, here / "model")
    history = [json.loads(line) for line in (here / "model" / "history.jsonl").read_text().splitlines()]
    for key in ("loss", "learning_rate", "gradient_norm", "tokens_per_second", "validation_perplexity"):
        assert metric("curve", key) == [(row["step"], row[key]) for row in history if key in row]
    assert metric("curve", "system/system_memory_usage_megabytes")
    tracking = Tracking.open("curve")
    data = tracking.client.get_run(tracking.run_id).data
    assert data.params["train.learning_rate"] == "0.01"
    assert data.params["numerics.threads"] == "1"
    store = here / "store"
    assert data.tags["wikigpt.checkpoint"] == str(store / "manifests" / "checkpoint" / ("f" * 32) / "00000006.json")


@pytest.mark.slow
def test_metrics_wait_for_mlflow_and_arrive_in_order(monkeypatch: pytest.MonkeyPatch, database: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    began = time.monotonic()
    with MetricsReporter(tiny_step("away"), {"train.seed": 1}) as record:
        for step in range(1, 201):
            record.observe({"step": step, "tokens": 64 * step, **ROW, "loss": step / 100}, steps=400)
        for checkpoint in ("a", "b"):
            record.tag("wikigpt.checkpoint", checkpoint)
        time.sleep(0.5)  # at least one try with everything queued
        assert time.monotonic() - began < 2, "nothing waited"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
        while record.rows or record.tags:
            assert time.monotonic() - began < 30
            time.sleep(0.05)
    assert metric("away", "loss") == [(step, step / 100) for step in range(1, 201)]
    tracking = Tracking.open("away")
    assert tracking.client.get_run(tracking.run_id).data.tags["wikigpt.checkpoint"] == "b"


def test_a_training_ends_though_mlflow_never_came_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    began = time.monotonic()
    with MetricsReporter(tiny_step("never"), {}) as record:
        record.observe({"step": 1, "tokens": 64, **ROW}, steps=4)
    assert time.monotonic() - began < 10
    assert "1 rows of metrics did not reach MLflow; history.jsonl has them" in capsys.readouterr().out


def test_a_resumed_training_delivers_the_metrics_of_the_earlier_process(database: str) -> None:
    rows = [{"step": step, "tokens": 64 * step, "loss": step / 10} for step in (2, 4, 6, 8)]
    with MetricsReporter(tiny_step("again"), {}) as record:
        for row in rows[:2]:
            record.observe(row, steps=12)
    with MetricsReporter(tiny_step("again"), {}, earlier=rows) as record:
        record.observe({"step": 10, "tokens": 640, "loss": 1.0}, steps=12)
    assert sorted(set(metric("again", "loss"))) == [(step, step / 10) for step in (2, 4, 6, 8, 10)]
    assert [step for step, _ in metric("again", "loss")].count(2) == 1


def test_what_was_not_delivered_before_a_stop_is_not_said_to_be_in_the_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(Interrupted), MetricsReporter(tiny_step("stopped"), {}, at_end=0.1) as record:
        record.observe({"step": 1, "tokens": 64, **ROW}, steps=4)
        raise Interrupted("a stop was requested", where="step train")
    assert "1 rows of metrics did not reach MLflow; a resumed run sends those" in capsys.readouterr().out


def test_progress_says_how_far_how_good_how_fast_and_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    record = MetricsReporter(Step("train", "r", {}), {})
    record.observe({"step": 1, "tokens": 64, **ROW}, steps=40)
    record.observe({"step": 10, "tokens": 640, **ROW}, steps=40)
    record.observe({"step": 10, "tokens": 640, "validation_loss": 2.0, "validation_perplexity": 7.4}, steps=40)
    compiled, first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["event"] == "progress" and first["step"] == "train"
    assert (first["done"], first["total"], first["loss"], first["tokens_per_second"]) == (10, 40, 2.5, 100.0)
    assert "eta" not in compiled
    assert first["eta"] == 30 * 64 / 100
    assert (second["loss"], second["validation_perplexity"]) == (2.5, 7.4)
