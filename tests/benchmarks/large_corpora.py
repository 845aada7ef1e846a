"""Seconds and peak memory of each step on corpora many times as large as a given one.

    python -m tests.benchmarks.large_corpora --corpus DIR --times 50 250 --record docs/benchmarks/large_corpora.json

DIR holds WikiText-2, or `train.txt` and its siblings. The command runs the steps on it, and then on corpora whose train
split is 50 and 250 times as large (tests/benchmarks/grown_corpus.py). Each step is the function of the pipeline, in a
process of its own, with a store and MLflow in a folder. Seconds are processor seconds of the step with all of its
threads, without the imports at its start; peak memory is the largest resident set of the process. The table has seconds
per megabyte of text relative to the first corpus.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks import record
from tests.benchmarks.grown_corpus import grow

STEPS = ("download", "validate", "tokenize", "train", "evaluate")
TRAINING_STEPS = 100
PROFILE = "quick"


@dataclass(frozen=True)
class Measurement:
    """One step on one corpus.

    Attributes:
        step: the name of the step.
        times: the size of the train split as a multiple of that of the given corpus.
        megabytes: the size of all splits, in 10^6 bytes.
        processor_seconds: of the step and its threads, without imports at its start.
        seconds: the same by the clock.
        peak_megabytes: the largest resident set of the process, in 10^6 bytes.
    """

    step: str
    times: int
    megabytes: float
    processor_seconds: float
    seconds: float
    peak_megabytes: float


def measure(source: Path, times: int, work: Path, steps: tuple[str, ...]) -> Iterator[Measurement]:
    """Makes a corpus and runs the steps on it, one after another."""
    corpus = work / "source"
    # In a process of its own: the peak of a child counts the memory that its parent has when it starts it.
    _start([sys.executable, "-m", __spec__.name, "--make", str(corpus), "--corpus", str(source), "--times", str(times)])
    size = sum(path.stat().st_size for path in corpus.iterdir()) / 1e6
    for step in steps:
        peak = _start([sys.executable, "-m", __spec__.name, "--step", step, "--work", str(work)])
        spent = json.loads((work / f"{step}.json").read_text())
        yield Measurement(step, times, round(size, 1), **spent, peak_megabytes=round(peak, 1))


def _start(command: list[str]) -> float:
    """Runs a process to its end and returns its peak memory in 10^6 bytes."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(command)} ended with {code}")
    return usage.ru_maxrss * 1024 / 1e6


def run_step(name: str, work: Path) -> None:
    """The body of a child: runs a step on the folders below `work`, and writes its seconds there."""
    from components.shared.runtime.step import Step
    from pipelines.config.settings import load

    os.environ["WIKIGPT_STORE"] = str(work / "store")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{work / 'mlflow.db'}"
    # Only the splits that are held out are scored, and they have the same size in each corpus.
    chosen = [f"download.corpus={work / 'source'}", f"train.steps={TRAINING_STEPS}", "evaluate.bleu_prompts=0"]
    sections = {name: values for name, values in asdict(load(PROFILE, chosen)).items() if isinstance(values, dict)}
    here = Step(name, f"large-{name}", sections)
    here.tracking  # noqa: B018 -- opens MLflow, so that its migrations are not measured
    corpus, tokens, model = (work / folder for folder in ("corpus", "tokens", "model"))
    if name == "download":
        from components.download.run import run

        call = lambda: run(here, corpus)  # noqa: E731
    elif name == "validate":
        import matplotlib.figure  # noqa: F401

        from components.validate.run import run as validate

        call = lambda: validate(here, corpus, work / "validation", work / "validation.html")  # noqa: E731
    elif name == "tokenize":
        from components.tokenize.run import run as tokenize

        call = lambda: tokenize(here, "tokens", corpus, tokens)  # noqa: E731
    elif name == "train":
        from components.train.run import run as train

        call = lambda: train(here, "model", tokens, model)  # noqa: E731
    else:
        from components.evaluate.run import run as evaluate

        call = lambda: evaluate(here, corpus, model, work / "evaluation", work / "evaluation.html")  # noqa: E731
    clock, processor = time.perf_counter(), _processor_seconds()
    call()
    seconds = {"processor_seconds": _processor_seconds() - processor, "seconds": time.perf_counter() - clock}
    (work / f"{name}.json").write_text(json.dumps({each: round(value, 2) for each, value in seconds.items()}))


def _processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def values(found: list[Measurement]) -> dict[str, Any]:
    """The values of the record: a row for each step and corpus, with the cost of a megabyte relative to the first."""
    base = {each.step: each.processor_seconds / each.megabytes for each in found if each.times == 1}
    rows = [
        {
            "step": each.step,
            "train_split": f"{each.times} ×",
            "text_in_MB": each.megabytes,
            "processor_seconds": each.processor_seconds,
            "seconds": each.seconds,
            "seconds_per_MB_relative": round(each.processor_seconds / each.megabytes / base[each.step], 2),
            "peak_memory_in_MB": each.peak_megabytes,
        }
        for each in sorted(found, key=lambda each: STEPS.index(each.step))
    ]
    return {"profile": PROFILE, "training_steps": TRAINING_STEPS, "steps": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="a folder with the three splits")
    parser.add_argument("--times", type=int, nargs="+", default=[50])
    parser.add_argument("--steps", nargs="+", default=STEPS, choices=STEPS)
    record.add_options(parser)
    parser.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="room for ten times the text")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.step:
        run_step(asked.step, asked.work)
    elif asked.make:
        grow(asked.corpus, asked.make, asked.times[0])
    else:
        compare(asked)


def compare(asked: argparse.Namespace) -> None:
    """Measures the steps on the given corpus and on larger ones, prints the table and writes the record."""
    recorder = record.Recorder(asked, "large_corpora", "Cost of the steps on large corpora", ["tokenizers", "torch"])
    found: list[Measurement] = []
    for times in (1, *asked.times):
        with tempfile.TemporaryDirectory(prefix="wikigpt-large-", dir=asked.scratch) as folder:
            for each in measure(asked.corpus, times, Path(folder), tuple(asked.steps)):
                found.append(each)
                print(json.dumps(asdict(each)), flush=True)
                recorder.save(values(found))


if __name__ == "__main__":
    main()
