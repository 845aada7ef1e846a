"""Numerics that a profile may leave to the machine, and that the weights depend on: device, precision, threads."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version

from components.shared.base.failure import ExitCode, Failure
from components.shared.model.hardware import PrecisionChoice, bfloat16_instructions, cores_granted, cpu_model
from components.shared.storage.files import write_atomically
from components.shared.storage.manifest import digest_of
from pipelines.config.settings import RunSettings
from pipelines.local import machine
from pipelines.local.home import Home


@dataclass(frozen=True)
class Numerics:
    """Device, precision and threads of a training on this machine.

    Attributes:
        device: `cpu` or `cuda`.
        precision: `float32` or `bfloat16`.
        threads: number of CPU threads.
        reason: why this precision was chosen, a phrase, if the profile left it open.
    """

    device: str
    precision: str
    threads: int
    reason: str = ""


def resolve_numerics(settings: RunSettings, home: Home) -> Numerics:
    """Resolves the numerics that a profile leaves open, by the hardware of this machine.

    Args:
        settings: before they are resolved.
        home: stores measurements, so that all its runs on one CPU have the same precision.

    Raises:
        Failure: torch cannot be used on this machine.
    """
    train = settings.train
    device: str = train.device
    if device == "auto":
        device = "cuda" if machine.gpus() else "cpu"
    threads = train.threads or cores_granted()
    if train.precision != "auto":
        return Numerics(device, train.precision, threads)
    decision = precision_on(device, threads, home)
    return Numerics(device, decision.precision, threads, decision.reason)


def pin_numerics(settings: RunSettings, home: Home) -> RunSettings:
    """Fills in the numerics that settings leave open, see `resolve_numerics`.

    Raises:
        Failure: the evaluation needs a GPU, and torch finds none.
    """
    here = resolve_numerics(settings, home)
    if settings.evaluate.device == "cuda" and here.device == "cpu":  # a training on a GPU fails early by itself
        _require_gpu("evaluate.device")
    return settings.with_values("train", device=here.device, precision=here.precision, threads=here.threads)


def precision_on(device: str, threads: int, home: Home) -> PrecisionChoice:
    """Returns the precision in which this machine multiplies fast. A CPU is measured once per home.

    Args:
        device: `cpu` or `cuda`.
        threads: the number of threads of the training.
        home: the home that stores the measurement by the model of the CPU and the version of torch.
    """
    if device == "cuda":
        return _measure_precision(device, threads)
    if not bfloat16_instructions():
        return PrecisionChoice("float32", "the CPU has no instructions for bfloat16", {})
    key = {"cpu": cpu_model(), "instructions": bfloat16_instructions(), "torch": version("torch")}
    path = home.precision / f"{digest_of(key)[:16]}.json"
    if not path.exists():
        measured = asdict(_measure_precision(device, threads))
        # If two runs measure at the same time, both use the result of the first.
        write_atomically(path, json.dumps(key | measured, indent=1) + "\n", if_absent=True)
    kept = json.loads(path.read_text(encoding="utf-8"))
    return PrecisionChoice(kept["precision"], kept["reason"], kept["gflops"])


def _require_gpu(setting: str) -> None:
    asked = "import torch; raise SystemExit(not torch.cuda.is_available())"
    if subprocess.run([sys.executable, "-c", asked], capture_output=True).returncode:
        raise Failure(
            f"{setting} is cuda, and there is no GPU that torch can use",
            where=setting,
            remedy="set it to auto or cpu, or run where there is a GPU and a CUDA build of torch",
            exit_code=ExitCode.USAGE,
        )


def _measure_precision(device: str, threads: int) -> PrecisionChoice:
    command = [sys.executable, "-m", "components.shared.model.hardware", device, str(threads)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        raise Failure(
            f"torch cannot be used: {(done.stderr.strip().splitlines() or ['no message'])[-1]}",
            where="train.precision=auto",
            remedy="repair the installation, or set train.precision to float32",
        )
    return PrecisionChoice(**json.loads(done.stdout))
