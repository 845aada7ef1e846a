"""Which precision a processor multiplies matrices fast in.

`python -m components.shared.model.precision cpu 2` prints it. A program of its own, so that who asks need not import
torch, and no setting of threads is left behind. A CPU may know bfloat16 and have no unit for it: then products in it
take half as long again as in float32, or twice.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Literal

# Autocast rounds weights and activations at every use: where products were 2.6 times as fast, a whole training step was
# 1.7 times. Below this, a step would be slower.
WORTH_IT = 1.5
# Seconds of measuring, and the fewest rounds, for a CPU so slow that one takes longer.
_SECONDS, _ROUNDS = 0.3, 3
_ROWS, _INNER, _COLUMNS = 1024, 512, 512


@dataclass(frozen=True)
class Decision:
    """A precision and why it is the one.

    Attributes:
        precision: to compute in.
        reason: a phrase for people.
        gflops: of products by precision, 10^9 operations a second; empty where nothing was measured.
    """

    precision: Literal["float32", "bfloat16"]
    reason: str
    gflops: dict[str, float]


def decide(gflops: dict[str, float]) -> Decision:
    """The precision of a CPU by the speed of products in each."""
    ratio = gflops["bfloat16"] / gflops["float32"]
    chosen: Literal["float32", "bfloat16"] = "bfloat16" if ratio >= WORTH_IT else "float32"
    return Decision(chosen, f"products in bfloat16 run at {ratio:.1f} times the speed of float32", gflops)


def measure(threads: int) -> dict[str, float]:
    """The speed of matrix products on the CPU by precision, 10^9 operations a second; takes a third of a second.

    The precisions take turns and the fastest round of each counts, so that work beside it slows both or none.
    """
    import torch

    torch.set_num_threads(threads)
    a, b = torch.randn(_ROWS, _INNER), torch.randn(_INNER, _COLUMNS)
    operands = {"float32": (a, b), "bfloat16": (a.bfloat16(), b.bfloat16())}
    for left, right in operands.values():
        left @ right  # the first product of a kind also makes its kernel
    best = dict.fromkeys(operands, float("inf"))
    end, rounds = time.perf_counter() + _SECONDS, 0
    while rounds < _ROUNDS or time.perf_counter() < end:
        for name, (left, right) in operands.items():
            began = time.perf_counter()
            left @ right
            best[name] = min(best[name], time.perf_counter() - began)
        rounds += 1
    return {name: round(2 * _ROWS * _INNER * _COLUMNS / seconds / 1e9, 1) for name, seconds in best.items()}


def of_gpus() -> Decision:
    """The precision of the GPUs that torch sees."""
    from components.shared.model.device import gpus_without_bfloat16

    if lacking := gpus_without_bfloat16():
        return Decision("float32", f"{lacking[0]} has no units for bfloat16", {})
    return Decision("bfloat16", "the GPU has units for bfloat16", {})


if __name__ == "__main__":
    device, threads = sys.argv[1:]
    print(json.dumps(asdict(of_gpus() if device == "cuda" else decide(measure(int(threads))))))
