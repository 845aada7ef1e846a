"""Everything that a quarter of an hour on one GPU can tell, in one command of nine minutes.

    python -m tests.benchmarks.gpu_session --corpus DIR --record docs/benchmarks/gpu_session.json
    python -m tests.benchmarks.gpu_session --corpus DIR --record … --resume    the parts that the record lacks
    python -m tests.benchmarks.gpu_session --corpus DIR --record … --toy       every part on the CPU at toy size

DIR holds WikiText-2, or `train.txt` and its siblings. Each part (tests/benchmarks/gpu_parts.py) has a process and a
time limit of its own. The record is written after each part, so nothing is lost if the machine is taken away. A part
that fails is recorded with one sentence, and the next one begins. The command needs no network and no other services.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import record

# The seconds after which each part is ended. They add up to more than the session has, and few parts need theirs.
LIMITS = {
    "device": 30,
    "matmul": 60,
    "gpt2_cold_start": 150,
    "gpt2_warm_start": 90,
    "gpt2_speed": 90,
    "tokens": 90,
    "finetune": 90,
    "scratch_modern": 300,
    "evaluation": 60,
}
_TOY_FACTOR = 4  # a busy CPU imports and compiles more slowly
TRAINING_SECONDS = 240.0
# What the profile needs besides its training: start, compilation, the last evaluation; and what the last part needs.
_AROUND_TRAINING, _AFTER_TRAINING = 45.0, 30.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="a folder with the three splits")
    parser.add_argument("--tokens", type=Path, help="a folder of kind tokens, by default made from the corpus")
    parser.add_argument("--minutes", type=float, default=9.0, help="when the session ends (9)")
    parser.add_argument("--resume", action="store_true", help="keep the parts that the record has without an error")
    parser.add_argument("--toy", action="store_true", help="every part on the CPU at toy size")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "wikigpt-gpu-session")
    record.add_options(parser)
    options = parser.parse_args()
    if options.record is None:
        parser.error("--record FILE is required, because the parts are saved there one by one")
    recorder = record.Recorder(options, "gpu_session", "A session on one GPU", ["torch", "transformers"])
    values = earlier_values(options.record) if options.resume else {}
    end = time.monotonic() + 60 * options.minutes
    for name in LIMITS:
        if "error" in values.get(name, {"error": ""}):
            values |= apart(name, run_part(name, options, end - time.monotonic()))
            recorder.save(values)
            print(json.dumps({name: values[name]}), flush=True)


def apart(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """The values of a part by its name, and its curves by names of their own, because a page shows them as tables."""
    curves = {f"{name}_{key}": value for key, value in found.items() if isinstance(value, list)}
    return {name: {key: value for key, value in found.items() if not isinstance(value, list)}, **curves}


def earlier_values(path: Path) -> dict[str, Any]:
    """The parts of an earlier session; none if there is no record."""
    return json.loads(path.read_text(encoding="utf-8"))["values"] if path.is_file() else {}


def run_part(name: str, options: argparse.Namespace, left: float) -> dict[str, Any]:
    """The values of a part, or the reason why there are none.

    Args:
        name: the name of the part.
        options: the options of the command.
        left: the seconds that the session has left.
    """
    limit = min(LIMITS[name] * (_TOY_FACTOR if options.toy else 1), left)
    if limit <= 0:
        return {"error": "The session had no time left."}
    options.work.mkdir(parents=True, exist_ok=True)
    training = max(1.0, min(TRAINING_SECONDS, left - _AROUND_TRAINING - _AFTER_TRAINING))
    command = [sys.executable, "-m", "tests.benchmarks.gpu_parts", name, "--corpus", str(options.corpus.resolve())]
    command += ["--work", str(options.work.resolve()), "--seconds", str(training)]
    command += ["--tokens", str(options.tokens.resolve())] if options.tokens else []
    command += ["--toy"] if options.toy else []
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(options.work.resolve() / "inductor")}
    began = time.monotonic()
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"The part took longer than {limit:g} seconds."}
    if ended.returncode:
        sys.stderr.write(ended.stderr)
        last = (ended.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        return {"error": f"The part ended with code {ended.returncode}: {last}"}
    return {**json.loads(ended.stdout.splitlines()[-1]), "process_seconds": round(time.monotonic() - began, 1)}


if __name__ == "__main__":
    main()
