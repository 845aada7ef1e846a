import os
from pathlib import Path

import pytest
import torch

from components.shared.base.failure import ExitCode, Failure
from components.shared.model.hardware import precision_by_capability
from components.train.device import choose_device, count_processes, precision_of, prepare, remark_on_precision
from tests.components.train.conftest import tiny

CPU = torch.device("cpu")
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


def test_processes_share_the_threads() -> None:
    assert prepare(tiny(threads=4), CPU, processes=2)["threads"] == torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_algorithms_are_deterministic_whatever_the_settings() -> None:
    numerics = prepare(tiny(), CPU)
    assert torch.are_deterministic_algorithms_enabled()
    assert numerics["device"] == "cpu" and not numerics["compiled"]


def test_the_compile_cache_is_kept_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIKIGPT_HOME", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    prepare(tiny(compile=True), CPU)
    assert os.environ.pop("TORCHINDUCTOR_CACHE_DIR") == str(tmp_path / "compile-cache")


def test_precision_is_that_of_the_settings_or_the_fast_one_of_the_hardware() -> None:
    assert precision_of(tiny(precision="bfloat16"), CPU) == "bfloat16"
    assert precision_of(tiny(precision="float32"), torch.device("cuda")) == "float32"
    has_amx = torch.cpu.get_capabilities().get("amx_bf16", False)
    assert (precision_of(tiny(precision="auto"), CPU) == "bfloat16") == has_amx


@pytest.mark.parametrize(
    ("capability", "asked", "remark"),
    [
        ((7, 5), "auto", "Tesla has no units for bfloat16: training is in float32"),
        ((7, 5), "bfloat16", "warning: Tesla has no units for bfloat16 and emulates it, which is slower than float32"),
        ((8, 0), "auto", None),
        ((8, 0), "float32", None),
    ],
)
def test_a_gpu_without_units_for_bfloat16_is_remarked_on(
    capability: tuple[int, int], asked: str, remark: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda gpu: "Tesla")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda gpu: capability)
    precision_by_capability.cache_clear()
    said = remark_on_precision(tiny(precision=asked), torch.device("cuda"))
    assert said is None if remark is None else said and said.startswith(remark)
    assert remark_on_precision(tiny(precision=asked), CPU) is None
    precision_by_capability.cache_clear()


@without_gpu
def test_a_missing_gpu_is_reported() -> None:
    with pytest.raises(Failure, match="There is no GPU that torch can use") as caught:
        choose_device(tiny(device="cuda"))
    assert caught.value.exit_code == ExitCode.USAGE


@without_gpu
def test_a_cpu_trains_in_one_process_by_default() -> None:
    assert count_processes(tiny(device="auto")) == 1
    assert count_processes(tiny(processes=2)) == 2
