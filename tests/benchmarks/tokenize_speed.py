"""How fast the tokenize step encodes, next to `datasets.map`: `python -m tests.benchmarks.tokenize_speed TEXT`.

TEXT is a file, for example wiki.train.tokens. All encode the same lines with the same tokenizer and keep the ids. The
step also reads the file, compares the bytes of the tokens with the text for proof, and finds the articles; that is
within its time. The best of a few repetitions counts; CPU seconds, over all threads, tell more than the clock where
other programs run.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from components.shared.text.articles import read_pieces, split_lines
from components.tokenize import tokenizer as step
from components.tokenize.tokenizer import as_fast_tokenizer, train_bpe
from tests.benchmarks import record

_STEP = "the step: read, encode, prove, find articles"
_REFERENCE = "datasets.map(batched=True)"
CHUNKS = (64, 256, 1024, 4096, 16384, 1 << 20)


@dataclass(frozen=True, order=True)
class Seconds:
    """Of the clock, and of all threads of this process."""

    clock: float
    cpu: float


def main() -> None:
    """Prints one line a measurement: seconds, MB/s of UTF-8, and how many times faster than `datasets.map`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--vocabulary", type=int, default=8192)
    record.add_options(parser)
    arguments = parser.parse_args()
    title = "Tokenizing beside datasets.map"
    recorder = record.Recorder(arguments, "tokenize_speed", title, ["tokenizers", "datasets"])
    text = arguments.text.read_bytes().decode()
    lines = split_lines(text)
    size = len(text.encode()) / 1e6
    print(f"{arguments.text.name}: {size:.1f} MB, {os.cpu_count()} cores, best of {arguments.repeat}")

    trained = best_of(1, lambda: train_bpe([text], vocab_size=arguments.vocabulary, min_frequency=2))
    report(f"train a BPE of {arguments.vocabulary:,}", trained, size)
    tokenizer = train_bpe([text], vocab_size=arguments.vocabulary, min_frequency=2)

    ways: dict[str, Callable[[], object]] = {_REFERENCE: lambda: by_datasets(tokenizer, lines)}
    for chunk in CHUNKS:
        ways[f"encode_batch_fast, {chunk:,} lines a call"] = partial(by_batches, tokenizer, lines, chunk)
    ways[_STEP] = partial(by_step, tokenizer, arguments.text)
    measured: dict[str, Seconds] = {}
    for name, way in ways.items():
        measured[name] = best_of(arguments.repeat, way)
        report(name, measured[name], size, measured[_REFERENCE])
    recorder.save(
        {
            "megabytes": round(size, 1),
            "repetitions": arguments.repeat,
            "seconds": {name: round(each.clock, 2) for name, each in measured.items()},
            "processor_seconds": {name: round(each.cpu, 2) for name, each in measured.items()},
            "megabytes_per_second": {name: round(size / each.clock, 2) for name, each in measured.items()},
            "speed_up": {name: round(measured[_REFERENCE].clock / each.clock, 2) for name, each in measured.items()},
        }
    )


def by_batches(tokenizer: Tokenizer, lines: list[str], chunk: int) -> list[list[int]]:
    """The bare calls of the library."""
    ids = []
    for start in range(0, len(lines), chunk):
        ids += [one.ids for one in tokenizer.encode_batch_fast(lines[start : start + chunk], add_special_tokens=False)]
    return ids


def by_step(tokenizer: Tokenizer, path: Path) -> list[np.ndarray]:
    """The step, which reads the file, encodes, compares with the text and finds articles."""
    pieces = (piece.decode() for piece in read_pieces(path))
    return [encoded.ids for encoded in step.encode(tokenizer, pieces, np.dtype("<u2"))]


def by_datasets(tokenizer: Tokenizer, lines: list[str]) -> None:
    """What the tutorials do: a data set of lines, mapped in batches in one process, written to Arrow."""
    import datasets

    datasets.disable_progress_bars()
    fast = as_fast_tokenizer(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        datasets.Dataset.from_dict({"text": lines}).map(
            lambda batch: {"input_ids": fast(batch["text"])["input_ids"]},
            batched=True,
            remove_columns=["text"],
            cache_file_name=f"{folder}/encoded.arrow",
            load_from_cache_file=False,
        )


def best_of(times: int, work: Callable[[], object]) -> Seconds:
    """Seconds of the fastest repetition."""
    return min(_timed(work) for _ in range(times))


def report(name: str, seconds: Seconds, size: float, reference: Seconds | None = None) -> None:
    """One line of the table."""
    ratio = f"{reference.clock / seconds.clock:5.2f} x" if reference else ""
    print(f"{name:<42} {seconds.clock:6.2f} s {seconds.cpu:6.2f} CPU s {size / seconds.clock:6.2f} MB/s {ratio}")


def _timed(work: Callable[[], object]) -> Seconds:
    clock, cpu = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - clock, time.process_time() - cpu)


if __name__ == "__main__":
    main()
