"""The comparison keeps finished trainings, stops at the first budget that reaches the target, and draws both curves."""

import argparse
import json

import pytest

from tests.benchmarks import time_to_perplexity as benchmark


def result(perplexity: float, seconds: float) -> dict:
    curve = [[seconds / 2, 2 * perplexity], [seconds, perplexity]]
    return {"steps": 10, "seconds": seconds, "perplexity": perplexity, "curve": curve}


RESULTS = {
    "Trainer, 0.001, 4 min": result(190.0, 240.0),
    "Trainer, 0.002, 4 min": result(180.0, 241.0),
    "Trainer, 0.002, 15 min": result(150.0, 901.0),
    "ours, 100 steps": result(170.0, 50.0),
    "ours, 200 steps": result(149.0, 100.0),
    "ours, 300 steps": result(140.0, 150.0),
}


@pytest.fixture
def options(tmp_path):
    return argparse.Namespace(
        corpus=tmp_path, work=tmp_path, device="cpu", threads=2, precision="float32", minutes=15, choose_minutes=4,
        rates=(1e-3, 2e-3), budgets=(100, 200, 300),
    )  # fmt: skip


@pytest.fixture
def trained(monkeypatch):
    """The names of the trainings that were started; each prints its result."""
    names: list[str] = []

    def run(command: list[str], **others: object) -> argparse.Namespace:
        case = benchmark.Case(**json.loads(command[-1]))
        names.append(case.name)
        if len(names) == 3:
            raise KeyboardInterrupt
        return argparse.Namespace(stdout="a line of a library\n" + json.dumps(RESULTS[case.name]) + "\n")

    monkeypatch.setattr(benchmark.subprocess, "run", run)
    return names


def test_an_interrupted_comparison_goes_on_with_the_training_that_it_lost(options, trained):
    saved: list[dict] = []
    with pytest.raises(KeyboardInterrupt):
        benchmark.compare(options, saved.append)
    assert [row["training"] for row in saved[-1]["trainings"]] == list(RESULTS)[:2]
    assert saved[-1]["target"] is saved[-1]["times_sooner"] is None
    found = benchmark.compare(options, saved.append)
    assert trained == [*list(RESULTS)[:3], *list(RESULTS)[2:5]]
    assert found == saved[-1]
    assert (found["target"], found["times_sooner"]) == (150.0, 9.01)
    assert found["seconds_to_target"] == {"Trainer": 901.0, "ours": 100.0}
    assert [row["side"] for row in found["curves"]] == ["Trainer", "Trainer", "ours", "ours"]


def test_the_picture_has_both_curves(options, tmp_path):
    benchmark.draw(benchmark.values(RESULTS, options), tmp_path / "picture.svg")
    drawn = (tmp_path / "picture.svg").read_text()
    assert drawn.startswith("<?xml") and len(drawn) > 5000
