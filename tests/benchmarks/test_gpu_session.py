"""The session for a GPU runs on a CPU at toy size, keeps its parts when it is killed, and goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from docs.generator.figures import _tables
from tests.benchmarks import gpu_session
from tests.benchmarks.gpu_parts import PARTS
from tests.components.train.conftest import make_tokens

FIELDS = {
    "device": {"device", "torch", "cuda"},
    "matmul": {"size", "bfloat16_tflops", "float32_tflops"},
    "gpt2_cold_start": {"first_step_seconds"},
    "gpt2_warm_start": {"first_step_seconds"},
    "gpt2_speed": {"parameters", "tokens_per_second", "mfu", "peak_memory_gb"},
    "tokens": {"seconds", "carried", "train_tokens"},
    "finetune": {"tokens_per_second", "peak_memory_gb"},
    "scratch_modern": {
        "steps_of_the_budget",
        "ended",
        "best_validation_word_perplexity",
        "peak_memory_gb",
    },
    "evaluation": {
        "tokens",
        "float32_tokens_per_second",
        "bfloat16_tokens_per_second",
        "float32_token_perplexity",
        "bfloat16_token_perplexity",
        "relative_difference",
    },
}


def session(folder: Path, *more: str) -> list[str]:
    """The words of the command after `python`."""
    files = ["--corpus", str(folder / "corpus"), "--record", str(folder / "session.json")]
    return ["-m", "tests.benchmarks.gpu_session", "--toy", *files, "--work", str(folder / "work"), *more]


def values_in(folder: Path) -> dict[str, Any]:
    path = folder / "session.json"
    return json.loads(path.read_text())["values"] if path.is_file() else {}


def test_every_part_has_a_limit() -> None:
    assert list(gpu_session.LIMITS) == list(PARTS) == list(FIELDS)


@pytest.mark.slow
def test_a_session_that_is_killed_goes_on_and_has_every_part(tmp_path: Path) -> None:
    make_tokens(tmp_path, seed=1)
    killed = subprocess.Popen([sys.executable, *session(tmp_path, "--minutes", "30")], stdout=subprocess.DEVNULL)
    while len(values_in(tmp_path)) < 4:
        assert killed.poll() is None
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    before = values_in(tmp_path)
    assert 4 <= len(before) < len(PARTS)
    subprocess.run(
        [sys.executable, *session(tmp_path, "--minutes", "30", "--resume")], check=True, stdout=subprocess.DEVNULL
    )
    values = values_in(tmp_path)
    assert values.keys() == {*PARTS, "scratch_modern_curve"}
    assert {name: values[name] for name in before} == before, "parts of the record are not measured again"
    for name, fields in FIELDS.items():
        assert fields <= values[name].keys(), values[name]
        assert values[name]["process_seconds"] > 0
    assert ("float8_tflops" in values["matmul"]) != ("float8_unavailable" in values["matmul"])
    assert [row["step"] for row in values["scratch_modern_curve"]] == [4, 8]
    assert 1 < values["evaluation"]["float32_token_perplexity"] < 400
    assert abs(values["evaluation"]["relative_difference"]) < 0.05
    assert "validation word perplexity" in _tables(values), "the page of benchmarks can show the record"


@pytest.mark.slow
def test_a_part_that_fails_or_is_late_is_recorded_and_the_next_one_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_session, "LIMITS", {"evaluation": 60, "device": 0.01})
    monkeypatch.setattr(sys, "argv", session(tmp_path)[1:])
    gpu_session.main()
    first, second = (values_in(tmp_path)[name]["error"] for name in ("evaluation", "device"))
    assert first.startswith("The part ended with code 1: FileNotFoundError: there is no model: run the part scratch_")
    assert second == "The part took longer than 0.04 seconds."
    monkeypatch.setattr(sys, "argv", session(tmp_path, "--minutes", "0", "--resume")[1:])
    gpu_session.main()
    assert values_in(tmp_path)["device"] == {"error": "The session had no time left."}
