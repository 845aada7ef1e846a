"""Numerics that a profile leaves open: a home always gives the answer that it gave first."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from components.shared.base.failure import Failure
from pipelines.config.settings import RunSettings, load
from pipelines.local import numerics
from pipelines.local.home import Home, open_home
from pipelines.local.numerics import pin_numerics


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


@pytest.fixture(autouse=True)
def an_epyc(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that multiplies in bfloat16 and has no AMX, and no GPU."""
    on_cpu(monkeypatch, "AMD EPYC", ("avx512_bf16",))
    monkeypatch.setattr(numerics.machine, "gpus", lambda: 0)


def on_cpu(monkeypatch: pytest.MonkeyPatch, model: str, instructions: tuple[str, ...]) -> None:
    monkeypatch.setattr(numerics, "cpu_model", lambda: model)
    monkeypatch.setattr(numerics, "bfloat16_instructions", lambda: instructions)


class Measurements:
    """Replaces the process that measures, and records its requests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *ratios: float):
        self.ratios, self.asked = list(ratios), []
        monkeypatch.setattr(numerics.subprocess, "run", self.run)

    def run(self, command: list[str], **_: object) -> SimpleNamespace:
        self.asked.append(command[3:])
        if command[3] == "cuda":
            answer = {"precision": "float32", "reason": "Tesla T4 has no units for bfloat16", "gflops": {}}
        else:
            ratio = self.ratios.pop(0)
            precision = "bfloat16" if ratio > 1.5 else "float32"
            answer = {"precision": precision, "reason": f"{ratio}", "gflops": {"float32": 100, "bfloat16": 100 * ratio}}
        return SimpleNamespace(returncode=0, stdout=json.dumps(answer), stderr="")


def quick(**train: object) -> RunSettings:
    return load("quick").with_values("train", **{"threads": 1, **train})


def precision(home: Home, **train: object) -> str:
    return pin_numerics(quick(**train), home).train.precision


def test_a_cpu_without_amx_is_measured_once_in_a_home(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measurements = Measurements(monkeypatch, 2.6, 0.5)
    assert precision(home) == "bfloat16"
    assert precision(home) == "bfloat16", "kept, though it would be measured otherwise now"
    assert measurements.asked == [["cpu", "1"]]
    (path,) = home.precision.iterdir()
    kept = json.loads(path.read_text())
    assert (kept["cpu"], kept["precision"]) == ("AMD EPYC", "bfloat16")
    assert precision(open_home(tmp_path / "other")) == "float32"


def test_another_cpu_or_another_torch_is_measured_anew(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    measurements = Measurements(monkeypatch, 2.6, 0.5, 1.0)
    assert precision(home) == "bfloat16"
    on_cpu(monkeypatch, "Intel Xeon", ("avx512_bf16",))
    assert precision(home) == "float32"
    on_cpu(monkeypatch, "AMD EPYC", ("avx512_bf16",))
    assert precision(home) == "bfloat16"
    monkeypatch.setattr(numerics, "version", lambda name: "99.0")
    assert precision(home) == "float32"
    assert len(measurements.asked) == 3


def test_of_two_runs_that_measure_at_once_both_take_the_first_answer(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    measurements = Measurements(monkeypatch, 2.6)

    def beside_another(command: list[str], **options: object) -> SimpleNamespace:
        monkeypatch.setattr(numerics.subprocess, "run", Measurements(monkeypatch, 0.5).run)
        assert precision(home) == "float32"
        return measurements.run(command, **options)

    monkeypatch.setattr(numerics.subprocess, "run", beside_another)
    assert precision(home) == "float32"
    assert measurements.ratios == [], "it measured 2.6"


def test_nothing_is_measured_where_nothing_is_open(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    measurements = Measurements(monkeypatch)
    assert precision(home, precision="bfloat16") == "bfloat16"
    on_cpu(monkeypatch, "Intel Xeon", ())
    assert precision(home) == "float32"
    assert not measurements.asked and not home.precision.exists()


def test_a_gpu_is_asked_and_its_answer_is_not_kept(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    measurements = Measurements(monkeypatch)
    monkeypatch.setattr(numerics.machine, "gpus", lambda: 1)
    pinned = pin_numerics(quick(), home).train
    assert (pinned.device, pinned.precision) == ("cuda", "float32")
    assert measurements.asked == [["cuda", "1"]] and not home.precision.exists()


def test_a_torch_that_cannot_be_imported_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = SimpleNamespace(returncode=1, stdout="", stderr="Traceback\nImportError: libgomp.so.1\n")
    monkeypatch.setattr(numerics.subprocess, "run", lambda *_, **__: broken)
    with pytest.raises(Failure, match="torch cannot be used: ImportError: libgomp"):
        precision(home)


@pytest.mark.slow
def test_the_process_that_measures_answers(home: Home) -> None:
    """The real measurement, whatever its result is on this machine."""
    decision = numerics.precision_on("cpu", 1, home)
    assert decision.gflops.keys() == {"float32", "bfloat16"}
    assert "times the speed of float32" in decision.reason
    assert numerics.precision_on("cpu", 1, home) == decision
    gpus = numerics.precision_on("cuda", 1, home)
    assert gpus.precision in ("float32", "bfloat16")


def test_the_command_that_pins_imports_no_torch() -> None:
    code = "import sys, pipelines.local.numerics, pipelines.local.check; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
