"""The precision in which a processor is fast, by its capability or by a measurement."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from components.evaluate.model import numerics_of
from components.evaluate.settings import EvaluateSettings
from components.shared.model import hardware
from components.shared.model.hardware import (
    WORTH_IT,
    bfloat16_instructions,
    choose_gpu_precision,
    choose_precision,
    cpu_model,
    gpus_without_bfloat16,
    measure_gflops,
    precision_by_capability,
)

T4, V100, A100, H100 = ("Tesla T4", (7, 5)), ("Tesla V100", (7, 0)), ("A100", (8, 0)), ("H100", (9, 0))


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    remembered = (cpu_model, bfloat16_instructions, precision_by_capability)
    for function in remembered:
        function.cache_clear()
    yield
    for function in remembered:
        function.cache_clear()


def with_gpus(monkeypatch: pytest.MonkeyPatch, *gpus: tuple[str, tuple[int, int]]) -> None:
    """Makes torch see GPUs with these names and compute capabilities."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(gpus))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda gpu: gpus[gpu][0])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda gpu: gpus[gpu][1])


def with_cpuinfo(monkeypatch: pytest.MonkeyPatch, folder: Path, *lines: str) -> None:
    """Makes the kernel report these values for the first of two CPUs."""
    (folder / "cpuinfo").write_text("\n".join(lines) + "\n\nprocessor\t: 1\nflags\t\t: amx_bf16\n")
    monkeypatch.setattr(hardware, "_CPUINFO", folder / "cpuinfo")


@pytest.mark.parametrize(
    ("gpus", "precision"),
    [((T4,), "float32"), ((V100,), "float32"), ((A100,), "bfloat16"), ((H100,), "bfloat16"), ((A100, T4), "float32")],
)
def test_a_gpu_computes_in_bfloat16_if_it_has_units_for_it(
    gpus: tuple, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_gpus(monkeypatch, *gpus)
    assert choose_gpu_precision().precision == precision_by_capability("cuda") == precision
    assert numerics_of(EvaluateSettings(device="cuda")) == ("cuda", precision)
    assert numerics_of(EvaluateSettings(device="cuda", dtype="bfloat16")) == ("cuda", "bfloat16")


def test_the_gpu_that_lacks_the_units_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with_gpus(monkeypatch, A100, T4)
    assert gpus_without_bfloat16() == ["Tesla T4"]
    assert choose_gpu_precision().reason == "Tesla T4 has no units for bfloat16"


@pytest.mark.parametrize(
    ("lines", "instructions"),
    [
        (["flags\t\t: fpu avx512f avx512_bf16 avx512_vnni"], ("avx512_bf16",)),
        (["flags\t\t: fpu avx512f avx512_bf16 amx_bf16 amx_tile"], ("amx_bf16", "avx512_bf16")),
        (["flags\t\t: fpu avx2 avx512f"], ()),
        (["BogoMIPS\t: 50.00", "Features\t: fp asimd i8mm bf16"], ("bf16",)),
        (["processor\t: 0"], ()),
    ],
)
def test_the_bfloat16_instructions_are_read_from_cpuinfo(
    lines: list[str], instructions: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_cpuinfo(monkeypatch, tmp_path, *lines)
    assert bfloat16_instructions() == instructions
    # Where nobody measures only AMX is taken to be fast: without it bfloat16 may be slower than float32.
    assert (precision_by_capability("cpu") == "bfloat16") == ("amx_bf16" in instructions)


def test_cpus_with_equal_names_are_distinguished_by_their_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = set()
    for model in ("17", "160"):
        with_cpuinfo(
            monkeypatch, tmp_path, "cpu family\t: 25", f"model\t\t: {model}", "model name\t: AMD EPYC Processor"
        )
        cpu_model.cache_clear()
        names.add(cpu_model())
    assert len(names) == 2 and all("AMD EPYC Processor" in name for name in names)


@pytest.mark.parametrize(
    ("float32", "bfloat16", "precision"),
    [
        (100.0, 260.0, "bfloat16"),  # an AMD EPYC with avx512_bf16, whose training steps ran 1.7 times as fast
        (315.0, 166.0, "float32"),  # the CPU without AMX of docs/training.md
        (100.0, 100.0 * WORTH_IT - 1, "float32"),
        (100.0, 100.0 * WORTH_IT, "bfloat16"),
    ],
)
def test_bfloat16_must_be_faster_by_what_its_conversions_cost(float32: float, bfloat16: float, precision: str) -> None:
    assert choose_precision({"float32": float32, "bfloat16": bfloat16}).precision == precision


def test_both_precisions_are_measured() -> None:
    threads = torch.get_num_threads()
    try:
        gflops = measure_gflops(1)
    finally:
        torch.set_num_threads(threads)
    assert gflops.keys() == {"float32", "bfloat16"} and all(value > 0 for value in gflops.values())
