"""What the weights depend on and a profile leaves to the machine: device, precision, threads."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version

from components.shared.base.failure import ExitCode, Failure
from components.shared.model.machine import bfloat16_instructions, cores_granted, cpu_model
from components.shared.model.precision import Decision
from components.shared.storage.files import write_atomically
from components.shared.storage.manifest import digest_of
from pipelines.config.settings import RunSettings
from pipelines.local import machine
from pipelines.local.home import Home


@dataclass(frozen=True)
class Numerics:
    """What a training computes with on this machine, nothing of it left open.

    Attributes:
        device: `cpu` or `cuda`.
        precision: `float32` or `bfloat16`.
        threads: of the CPU.
        reason: why the precision is the one where the profile left it open, a phrase.
    """

    device: str
    precision: str
    threads: int
    reason: str = ""


def resolve_numerics(settings: RunSettings, home: Home) -> Numerics:
    """Settles the numerics that a profile leaves open, by what this machine has.

    Args:
        settings: as they were asked for.
        home: keeps what was measured, so that its runs have one precision on one CPU.

    Raises:
        Failure: torch cannot be used here.
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
    """The settings with the numerics of this machine in place of what they leave open, see `resolve_numerics`.

    Raises:
        Failure: the evaluation asks for a GPU, and torch sees none.
    """
    here = resolve_numerics(settings, home)
    if settings.evaluate.device == "cuda" and here.device == "cpu":  # a training on a GPU says it in time
        _require_gpu("evaluate.device")
    return settings.with_values("train", device=here.device, precision=here.precision, threads=here.threads)


def precision_on(device: str, threads: int, home: Home) -> Decision:
    """The precision that this machine multiplies fast in. A CPU is measured once in a home.

    Args:
        device: `cpu` or `cuda`.
        threads: of the training.
        home: where the measurement is kept, by the model of the CPU and the version of torch.
    """
    if device == "cuda":
        return _measure_precision(device, threads)
    if not bfloat16_instructions():
        return Decision("float32", "the CPU has no instructions for bfloat16", {})
    key = {"cpu": cpu_model(), "instructions": bfloat16_instructions(), "torch": version("torch")}
    path = home.precision / f"{digest_of(key)[:16]}.json"
    if not path.exists():
        measured = asdict(_measure_precision(device, threads))
        # Of two runs that measure at the same time the first one's answer is kept, and both take it.
        write_atomically(path, json.dumps(key | measured, indent=1) + "\n", if_absent=True)
    kept = json.loads(path.read_text(encoding="utf-8"))
    return Decision(kept["precision"], kept["reason"], kept["gflops"])


def _require_gpu(setting: str) -> None:
    asked = "import torch; raise SystemExit(not torch.cuda.is_available())"
    if subprocess.run([sys.executable, "-c", asked], capture_output=True).returncode:
        raise Failure(
            f"{setting} is cuda, and there is no GPU that torch can use",
            where=setting,
            remedy="set it to auto or cpu, or run where there is a GPU and a CUDA build of torch",
            exit_code=ExitCode.USAGE,
        )


def _measure_precision(device: str, threads: int) -> Decision:
    command = [sys.executable, "-m", "components.shared.model.precision", device, str(threads)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        raise Failure(
            f"torch cannot be used: {(done.stderr.strip().splitlines() or ['no message'])[-1]}",
            where="train.precision=auto",
            remedy="repair the installation, or set train.precision to float32",
        )
    return Decision(**json.loads(done.stdout))
