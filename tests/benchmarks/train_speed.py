"""Tokens a second of the trainer, beside Hugging Face's `Trainer` and the machine's own ceiling.

    python -m tests.benchmarks.train_speed                  a model of 5M parameters on the CPU, or GPT-2 on a GPU
    python -m tests.benchmarks.train_speed --start-up       what comes before the first step, cold and warm
    python -m tests.benchmarks.train_speed --loss           F.linear_cross_entropy against the plain loss

Both sides train the same model on the same number of random tokens with AdamW, warmed up, in turn, every measurement in
a process of its own; the median of the rounds counts. MFU is 6 N + 12 L d T FLOP a token over the fastest matrix
product measured here in the same precision.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from components.shared.model.hardware import cores_granted
from components.train.data import TokenSplit, TrainBatches, TrainingData, ValidationBatches
from components.train.device import autocast, choose_device, precision_of, prepare
from components.train.loop import train
from components.train.model import build_model, token_loss
from components.train.settings import TrainSettings
from tests.benchmarks import record

WARM_UP = 3
ON_CPU = {
    "architecture": "qwen3",
    "num_hidden_layers": 4,
    "hidden_size": 256,
    "num_attention_heads": 4,
    "context": 512,
    "sequence_length": 256,
    "global_batch_size": 8,
}
ON_GPU = {
    "architecture": "gpt2",
    "num_hidden_layers": 12,
    "hidden_size": 768,
    "num_attention_heads": 12,
    "context": 1024,
    "sequence_length": 1024,
    "global_batch_size": 64,
}
VOCABULARY = {"cpu": 8192, "cuda": 50257}


@dataclass(frozen=True)
class Case:
    """One side of the comparison: who trains, in which precision, compiled or not."""

    who: str
    precision: str
    compiled: bool

    def __str__(self) -> str:
        return f"{self.who}, {self.precision}{', compiled' if self.compiled else ''}"

    @classmethod
    def of(cls, name: str) -> Case:
        """The case of that name."""
        who, precision, *compiled = name.split(", ")
        return cls(who, precision, bool(compiled))


def ours(settings: TrainSettings, vocab_size: int, steps: int, weights: Path | None = None) -> float:
    """Tokens a second of the loop, evaluation and checkpoints apart, for a model from scratch or from a folder."""
    device = choose_device(settings)
    prepare(settings, device)
    corpus = random_data(settings, vocab_size, steps + WARM_UP, device)
    model = build_model(settings, vocab_size=vocab_size, eos_id=0, weights=weights)
    model = torch.nn.Module.to(model, device)
    moments: dict[int, float] = {}

    def note(row: dict[str, Any]) -> None:
        if "loss" in row:
            moments[row["step"]] = time.perf_counter()

    settings = replace(settings, log_every=WARM_UP, evaluate_every=10**9)
    train(model, corpus, settings, steps=steps + WARM_UP, device=device, observe=note)
    done = max(moments) - WARM_UP
    return done * settings.global_batch_size * settings.sequence_length / (moments[max(moments)] - moments[WARM_UP])


def theirs(settings: TrainSettings, vocab_size: int, steps: int) -> float:
    """Tokens a second of `transformers.Trainer` as it comes, with the same model, batch and block."""
    device = choose_device(settings)
    torch.set_num_threads(settings.threads or cores_granted())
    model = build_model(settings, vocab_size=vocab_size, eos_id=0)
    watch = Watch(WARM_UP, WARM_UP + steps)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=steps + WARM_UP,
            per_device_train_batch_size=settings.global_batch_size,
            bf16=precision_of(settings, device) == "bfloat16",
            torch_compile=settings.compile,
            use_cpu=device.type == "cpu",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        count = (steps + WARM_UP) * settings.global_batch_size
        data = Blocks(torch.randint(vocab_size, (count, settings.sequence_length)))
        Trainer(model=model, args=arguments, train_dataset=data, callbacks=[watch]).train()
    return steps * settings.global_batch_size * settings.sequence_length / (watch.moments[-1] - watch.moments[0])


class Watch(TrainerCallback):
    """Notes when some steps end; the others do not wait for the device."""

    def __init__(self, *steps: int) -> None:
        self.steps, self.moments = steps, list[float]()

    def on_step_end(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        if state.global_step in self.steps:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.moments.append(time.perf_counter())


class Blocks(Dataset):
    """What a user of `Trainer` has after `datasets.map`: blocks of ids, shape (blocks, tokens), with equal labels."""

    def __init__(self, rows: torch.Tensor):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.rows[index], "labels": self.rows[index]}


def random_data(settings: TrainSettings, vocab_size: int, steps: int, device: torch.device) -> TrainingData:
    count = (steps * settings.global_batch_size + 2) * settings.sequence_length + 1
    tokens = np.random.default_rng(0).integers(vocab_size, size=count).astype(np.uint16)
    split = TokenSplit(tokens, np.array([0, count]), None)
    order = TrainBatches(
        split, sequence_length=settings.sequence_length, batch_size=settings.global_batch_size, seed=1, device=device
    )
    validation = ValidationBatches(
        split, sequence_length=settings.sequence_length, limit=settings.sequence_length, device=device
    )
    return TrainingData(order, validation, vocab_size)


def ceiling(precision: str, device: torch.device, size: int) -> float:
    """FLOP a second of a square matrix product, the best of ten."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    left, right = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
    return 2 * size**3 / min(seconds_of(lambda: left @ right, device) for _ in range(10))


def seconds_of(work: Any, device: torch.device) -> float:
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def compare(settings: TrainSettings, vocab_size: int, steps: int, rounds: int) -> dict[str, Any]:
    """Speeds of every case, in turn, and what they amount to.

    Every measurement has a process of its own: what one side sets for its process (threads, memory, determinism) must
    not serve or harm the other, and each compiles once. The compile caches are shared and warm from the first round.
    """
    device = choose_device(settings)
    fast = precision_of(replace(settings, precision="auto"), device)
    cases = [Case("ours", fast, True), Case("Trainer", "float32", False), Case("Trainer", fast, True)]
    if fast != "bfloat16":
        cases += [Case("ours", "bfloat16", True), Case("Trainer", "bfloat16", True)]
    seen: dict[Case, list[dict[str, float]]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            seen[case].append(alone(case, settings, steps))
            print(f"{case}: {seen[case][-1]['tokens_per_second']:,.0f} tokens/s", file=sys.stderr, flush=True)
    model = build_model(settings, vocab_size=vocab_size, eos_id=0)
    parameters = sum(weight.numel() for weight in model.parameters())
    flop = flop_per_token(settings, parameters)
    torch.set_num_threads(settings.threads or cores_granted())
    peak = {p: ceiling(p, device, 8192 if device.type == "cuda" else 1024) for p in ("float32", "bfloat16")}
    medians = {case: statistics.median(each["tokens_per_second"] for each in seen[case]) for case in cases}
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads",
        "parameters": parameters,
        "tokens_per_second": {str(case): round(value) for case, value in medians.items()},
        "mfu": {str(case): round(flop * value / peak[case.precision], 3) for case, value in medians.items()},
        "ratio": {
            f"{mine} / {case}": round(medians[mine] / medians[case], 2)
            for case in cases
            for mine in cases
            if case.who != "ours" and mine.who == "ours"
            if (mine.precision == case.precision if case.compiled else mine == cases[0])
        },
        "matmul_gflops": {precision: round(value / 1e9) for precision, value in peak.items()},
        "peak_memory_mb": {str(case): round(max(each["peak_memory_mb"] for each in seen[case])) for case in cases},
    }


def flop_per_token(settings: TrainSettings, parameters: int) -> int:
    """FLOP of forward and backward pass for a token: 6 N + 12 L d T (Chowdhery et al. 2022, appendix B)."""
    return 6 * parameters + 12 * settings.num_hidden_layers * settings.hidden_size * settings.sequence_length


def alone(case: Case, settings: TrainSettings, steps: int) -> dict[str, float]:
    """One measurement, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.train_speed", "--steps", str(steps), "--case", str(case)]
    command += ["--threads", str(settings.threads)] if settings.threads else []
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    return json.loads(answer.splitlines()[-1])


def measure(case: Case, settings: TrainSettings, vocab_size: int, steps: int) -> dict[str, float]:
    """Tokens a second and peak memory of one side, in this process."""
    settings = replace(settings, precision=case.precision, compile=case.compiled)
    speed = (ours if case.who == "ours" else theirs)(settings, vocab_size, steps)
    memory = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _resident()
    return {"tokens_per_second": speed, "peak_memory_mb": memory / 1e6}


def start_up(threads: int | None) -> dict[str, float]:
    """Seconds of imports, and to the end of the first step with an empty and with a filled compile cache."""
    program = (
        "import time; began = time.perf_counter(); import components.train.job; print(time.perf_counter() - began)"
    )
    seconds = {
        "imports": float(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    }
    with tempfile.TemporaryDirectory() as cache:
        for name in ("first_step_cold", "first_step_warm"):
            command = [sys.executable, "-m", "tests.benchmarks.train_speed", "--first-step"]
            command += ["--threads", str(threads)] if threads else []
            environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
            answer = subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout
            seconds[name] = float(answer.splitlines()[-1])
    return {name: round(value, 1) for name, value in seconds.items()}


def first_step(settings: TrainSettings, vocab_size: int) -> float:
    began = time.perf_counter()
    settings = replace(settings, compile=True)
    device = choose_device(settings)
    prepare(settings, device)
    corpus = random_data(settings, vocab_size, 1, device)
    model = torch.nn.Module.to(build_model(settings, vocab_size=vocab_size, eos_id=0), device)
    train(model, corpus, settings, steps=1, device=device)
    return time.perf_counter() - began


def losses(settings: TrainSettings, vocab_size: int, rounds: int) -> dict[str, float]:
    """Milliseconds of loss and gradient by the plain loss and by `F.linear_cross_entropy`, eager and compiled."""
    device = choose_device(settings)
    prepare(settings, device)
    model: Any = build_model(settings, vocab_size=vocab_size, eos_id=0)
    model = torch.nn.Module.to(model, device)
    ids = torch.randint(vocab_size, (settings.global_batch_size, settings.sequence_length + 1), device=device)
    head = model.get_output_embeddings().weight

    def plain() -> torch.Tensor:
        return token_loss(model, ids[:, :-1], ids[:, 1:], vocab_size)

    def fused(options: Any = None) -> torch.Tensor:
        hidden = model.base_model(input_ids=ids[:, :-1]).last_hidden_state.flatten(0, 1)
        targets = ids[:, 1:].flatten()
        return torch.nn.functional.linear_cross_entropy(hidden, head.to(hidden.dtype), targets, options=options)

    ways: dict[str, Any] = {"plain": plain, "linear_cross_entropy": fused}
    ways["linear_cross_entropy, chunked"] = lambda: fused(torch.nn.LinearCrossEntropyOptions())
    ways |= {f"{name}, compiled": torch.compile(way) for name, way in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():

            def step(way: Any = way) -> None:
                with autocast(settings, device):
                    loss = way()
                loss.backward()
                model.zero_grad()

            times[name].append(seconds_of(step, device))
    return {name: round(1000 * statistics.median(values[1:]), 1) for name, values in times.items()}


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="timed steps of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--start-up", action="store_true")
    parser.add_argument("--loss", action="store_true")
    parser.add_argument("--first-step", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--case", type=Case.of, help=argparse.SUPPRESS)
    record.add_options(parser)
    asked = parser.parse_args()
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    shape = ON_GPU if kind == "cuda" else ON_CPU
    settings = TrainSettings(steps=1, threads=asked.threads, device=kind, **shape)
    if asked.case:
        print(json.dumps(measure(asked.case, settings, VOCABULARY[kind], asked.steps)))
        return
    if asked.first_step:
        print(first_step(settings, VOCABULARY[kind]))
        return
    if asked.start_up:
        title = "Seconds before the first training step"
    elif asked.loss:
        title = "Loss and gradient by F.linear_cross_entropy"
    else:
        title = "Training speed beside transformers.Trainer"
    recorder = record.Recorder(asked, "train_speed", title, ["torch", "transformers", "accelerate"])
    if asked.start_up:
        values = {"seconds": start_up(asked.threads)}
    elif asked.loss:
        values = {"milliseconds": losses(settings, VOCABULARY[kind], asked.rounds)}
    else:
        values = compare(settings, VOCABULARY[kind], asked.steps, asked.rounds)
    print(json.dumps(values, indent=1))
    recorder.save(values)


if __name__ == "__main__":
    main()
