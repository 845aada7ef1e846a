"""Trials of training settings, judged on validation alone, and the table of them.

    python -m tests.benchmarks.tune trial --corpus DIR --profile cpu --set train.learning_rate=5e-3
    python -m tests.benchmarks.tune table

A trial trains as the step does, from the settings of a profile with the overrides in the columns, and adds a line to
docs/trials.jsonl. Word perplexity is over the whole validation split in sequences of the training's length, so it is
higher than that of the evaluation, whose windows may overlap. Seconds are processor seconds of all threads, which
hardly depend on the load of the machine.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from components.shared.storage.files import file_fact
from components.shared.storage.manifest import digest_of, read_manifest, write_manifest
from components.tokenize.run import write_tokens
from components.train.data import open_data
from components.train.device import choose_device, prepare
from components.train.loop import budget, train, validation_loss
from components.train.model import build_model
from components.train.settings import TrainSettings
from pipelines.config.settings import RunSettings, load

DOCS = Path(__file__).parents[2] / "docs"
# Settings that do not change what is learned, or that the table shows by another column.
WATCHING = {"log_every", "evaluate_every", "validation_tokens", "threads", "precision", "context"}
RELEASED = {"train": "wiki.train.tokens", "validation": "wiki.valid.tokens", "test": "wiki.test.tokens"}


def trial(settings: RunSettings, corpus: Path) -> dict[str, Any]:
    """Trains once; what came out, as plain values."""
    tokens_dir = tokens_of(settings, corpus)
    metadata = read_manifest(tokens_dir, "tokens").metadata
    device = choose_device(settings.train)
    numerics = prepare(settings.train, device)
    data = open_data(settings.train, metadata, tokens_dir, device)
    vocabulary = {"vocab_size": metadata["vocab_size"], "eos_id": metadata["eos_id"]}
    model = build_model(settings.train, ids=lambda: data.train.split.ids, **vocabulary)
    model = torch.nn.Module.to(model, device)
    steps = budget(settings.train, data.train.steps_per_epoch)
    began = time.process_time()
    progress = train(model, data, settings.train, steps=steps, device=device, observe=show)
    seconds = time.process_time() - began
    whole = open_data(replace(settings.train, validation_tokens=None), metadata, tokens_dir, device)
    counts = metadata["splits"]["validation"]
    word_loss = validation_loss(model, whole, settings.train) * counts["tokens"] / counts["words"]
    return {
        "profile": settings.profile,
        "changed": changed(settings),
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "steps": progress.step,
        "tokens": progress.step * settings.train.global_batch_size * settings.train.sequence_length,
        "processor_seconds": round(seconds),
        "word_perplexity": round(math.exp(word_loss), 2),
        "numerics": numerics,
        "machine": platform.machine() + (", AMX" if torch.cpu.get_capabilities().get("amx_bf16") else ", no AMX"),
    }


def tokens_of(settings: RunSettings, corpus: Path) -> Path:
    """The tokens of a corpus by the settings of a run, made once."""
    texts = {split: corpus / f"{split}.txt" for split in RELEASED}
    texts = {split: path if path.exists() else corpus / RELEASED[split] for split, path in texts.items()}
    digests = {split: file_fact(path).sha256 for split, path in texts.items()}
    key = digest_of([asdict(settings.tokenize), digests])[:16]
    folder = Path(tempfile.gettempdir()) / "wikigpt-tuning" / key
    if not (folder / "manifest.json").exists():
        with tempfile.TemporaryDirectory() as scratch:
            for split, path in texts.items():
                (Path(scratch) / f"{split}.txt").write_bytes(path.read_bytes())
            metadata = write_tokens(settings.tokenize, Path(scratch), folder)
        write_manifest(folder, "tokens", metadata)
    return folder


def changed(settings: RunSettings) -> dict[str, Any]:
    """What the settings of a trial have that the defaults have not."""
    plain, own = asdict(TrainSettings(steps=1)), asdict(settings.train)
    return {"vocab_size": settings.tokenize.vocab_size} | {n: v for n, v in own.items() if v != plain[n]}


def show(row: dict[str, Any]) -> None:
    print(json.dumps({name: round(value, 4) for name, value in row.items()}), flush=True)


def table(trials: list[dict[str, Any]]) -> str:
    """The trials as Markdown, by profile, the best first; only settings that differ among them are shown."""
    lines = ["# Trials", "", f"Made by `python -m tests.benchmarks.tune table`. {__doc__.split(chr(10) * 2)[2]}", ""]
    for profile in sorted({each["profile"] for each in trials}):
        mine = sorted((t for t in trials if t["profile"] == profile), key=lambda each: each["word_perplexity"])
        names = sorted({name for each in mine for name in each["changed"]} - WATCHING)
        shown = [n for n in names if len({json.dumps(each["changed"].get(n)) for each in mine}) > 1 or len(mine) == 1]
        heads = ["validation word perplexity", "processor seconds", "tokens", "parameters", "machine", *shown]
        lines += [f"## {profile}", "", _line(heads), _line(["---"] * len(heads))]
        for each in mine:
            cells = [each["word_perplexity"], each["processor_seconds"], f"{each['tokens']:,}"]
            cells += [f"{each['parameters']:,}", f"{each['machine']}, {each['numerics']['precision']}"]
            lines.append(_line([*cells, *(each["changed"].get(name, "") for name in shown)]))
        lines.append("")
    return "\n".join(lines)


def _line(cells: list[Any]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("trial")
    one.add_argument("--corpus", type=Path, required=True, help="a folder with the three splits")
    one.add_argument("--profile", required=True)
    one.add_argument("--set", action="append", default=[], dest="overrides", metavar="SECTION.KEY=VALUE")
    for command in (one, commands.add_parser("table")):
        command.add_argument("--trials", type=Path, default=DOCS / "trials.jsonl")
    asked = parser.parse_args()
    if asked.command == "trial":
        result = trial(load(asked.profile, asked.overrides), asked.corpus)
        with open(asked.trials, "a") as stream:
            stream.write(json.dumps(result) + "\n")
        print(json.dumps(result))
    else:
        trials = [json.loads(line) for line in asked.trials.read_text().splitlines()]
        (DOCS / "trials.md").write_text(table(trials))


if __name__ == "__main__":
    main()
