"""Seconds of training to the validation perplexity that Hugging Face's `Trainer` reaches in a given time.

    python -m tests.benchmarks.time_to_perplexity --corpus DIR --work DIR --picture docs/images/time_to_perplexity.svg
    python -m tests.benchmarks.time_to_perplexity --corpus DIR --work DIR --device cuda --minutes 4 --choose-minutes 1

A compiled `Trainer` trains for a few minutes with each of three learning rates, and for 15 minutes with the best of
them. Its validation word perplexity is the target. The trainer of this project then trains by a profile with growing
budgets, until one ends at the target or below. Both are in the precision that this machine is fast in, on the same
threads, in turn, each training in a process of its own. Seconds of training begin after the first step; evaluations do
not count. Initialization, compilation and the first step are the seconds to the first step. Both are evaluated by the
same function: every token of the validation split once, in sequences of the training's length, without overlap.

A finished training is kept in the folder `--work`. After an interruption the same command goes on with the next one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from components.shared.model.hardware import measure_precision
from components.shared.storage.files import write_atomically
from components.shared.text.units import word_perplexity
from tests.benchmarks import record

LEARNING_RATES = (1e-3, 2e-3, 4e-3)
THEIR_VOCABULARY = 8192
# The profile of our side by device, what is changed in it, and its budgets in steps. A training that ends after an
# epoch or two needs no dropout and no large model, which the profile has for its longer training.
PROFILES = {"cpu": "cpu", "cuda": "scratch-modern"}
CHANGED: dict[str, dict[str, Any]] = {
    "cpu": {"hidden_size": 192, "num_attention_heads": 3, "dropout": 0.0, "embedding_dropout": 0.0},
    "cuda": {},
}
BUDGETS = {"cpu": (500, 750, 1000, 1250, 1500, 2000, 2500, 3000), "cuda": (200, 400, 800, 1600)}
_EVALUATIONS = 5


@dataclass(frozen=True)
class Case:
    """One training.

    Attributes:
        who: `Trainer` or `ours`.
        device: `cpu` or `cuda`.
        threads: the number of threads.
        precision: `float32` or `bfloat16`.
        learning_rate: of `Trainer`; ours has that of its profile.
        seconds: the training time of `Trainer`.
        steps: the number of our steps.
    """

    who: str
    device: str
    threads: int
    precision: str
    learning_rate: float | None = None
    seconds: float | None = None
    steps: int | None = None

    @property
    def name(self) -> str:
        if self.who == "ours":
            return f"ours, {self.steps} steps"
        return f"Trainer, {self.learning_rate:g}, {(self.seconds or 0) / 60:g} min"


def measure(case: Case, corpus: Path, work: Path) -> dict[str, Any]:
    """Trains in this process.

    Returns:
        The curve as seconds of training and word perplexities, the seconds to the first step, and the steps.
    """
    return (_theirs if case.who == "Trainer" else _ours)(case, corpus, work)


def _theirs(case: Case, corpus: Path, work: Path) -> dict[str, Any]:
    from components.train.data import TokenSplit
    from components.train.settings import TrainSettings
    from tests.benchmarks import hugging_face_trainer as peer

    folder, metadata = _tokens(corpus, work, THEIR_VOCABULARY)
    assert case.learning_rate and case.seconds
    settings = TrainSettings(
        **peer.SETTINGS, **_numerics(case), learning_rate=case.learning_rate, prepend_eos=False, steps=1
    )
    evaluate = _evaluator(settings, folder, metadata)
    tokens = TokenSplit.open(folder, "train", metadata["dtype"], None).ids
    steps = peer.steps_in(case.seconds, settings, tokens, metadata)
    began = time.perf_counter()
    callback = peer.Evaluate(_moments(steps), evaluate)
    peer.train(settings, tokens, metadata, steps, callback)
    # The probe of the speed is no part of the training, and compiled it; a user's first step compiles as well.
    return _result(callback.curve, steps, settings, callback.first_step - began)


def _ours(case: Case, corpus: Path, work: Path) -> dict[str, Any]:
    from components.train.data import open_data
    from components.train.device import choose_device, prepare
    from components.train.extras.bigram import TOKENS
    from components.train.loop import train
    from components.train.model import build_model
    from pipelines.config.settings import load

    profile = load(PROFILES[case.device])
    folder, metadata = _tokens(corpus, work, profile.tokenize.vocab_size)
    assert case.steps
    every = max(1, case.steps // _EVALUATIONS)
    budget: dict[str, Any] = {"steps": case.steps, "epochs": None, "evaluate_every": every, "validation_tokens": None}
    settings = replace(profile.train, **_numerics(case), **CHANGED[case.device], **budget)
    device = choose_device(settings)
    prepare(settings, device)
    data = open_data(settings, metadata, folder, device)
    began = time.perf_counter()
    model: Any = build_model(
        settings,
        vocab_size=metadata["vocab_size"],
        eos_id=metadata["eos_id"],
        ids=lambda: data.train.split.head(TOKENS),
    )
    per_step = settings.global_batch_size * settings.sequence_length
    seconds, first, done, curve = 0.0, 0.0, 0, []

    def observe(row: dict[str, Any]) -> None:
        nonlocal seconds, first, done
        if "loss" in row:
            if first:
                seconds += (row["step"] - done) * per_step / row["tokens_per_second"]
            first, done = first or time.perf_counter() - began, row["step"]
        else:
            curve.append((seconds, word_perplexity(row["validation_loss"], metadata["splits"]["validation"])))

    train(model.to(device), data, settings, steps=case.steps, device=device, observe=observe)
    return _result(curve, case.steps, settings, first)


def _result(curve: list[tuple[float, float]], steps: int, settings: Any, to_first_step: float) -> dict[str, Any]:
    seconds, perplexity = curve[-1]
    tokens = steps * settings.global_batch_size * settings.sequence_length
    return {
        "steps": steps,
        "tokens": tokens,
        "seconds": round(seconds, 1),
        "tokens_per_second": round(tokens / seconds),
        "perplexity": round(perplexity, 2),
        "seconds_to_first_step": round(to_first_step, 1),
        "curve": [[round(moment, 1), round(value, 2)] for moment, value in curve],
    }


def _moments(steps: int) -> set[int]:
    return {round(part * steps / _EVALUATIONS) for part in range(1, _EVALUATIONS + 1)}


def _numerics(case: Case) -> dict[str, Any]:
    return {"device": case.device, "threads": case.threads, "precision": case.precision, "compile": True}


def _evaluator(settings: Any, folder: Path, metadata: dict[str, Any]) -> Callable[[Any], float]:
    """Measures the validation word perplexity of a model by the function of the training step."""
    from components.train.data import open_data
    from components.train.device import choose_device
    from components.train.loop import validation_loss

    device = choose_device(settings)
    data, counts = open_data(settings, metadata, folder, device), metadata["splits"]["validation"]
    return lambda model: word_perplexity(validation_loss(model, data, settings), counts)


def _tokens(corpus: Path, work: Path, vocab_size: int) -> tuple[Path, dict[str, Any]]:
    """The folder of tokens with a vocabulary of its own, and its metadata. It is made once."""
    from components.tokenize.run import write_tokens
    from components.tokenize.settings import TokenizeSettings
    from tests.benchmarks.grown_corpus import grow

    folder = work / f"tokens-{vocab_size}"
    described = folder / "metadata.json"
    if not described.is_file():
        grow(corpus, work / "corpus", 1)  # a copy with the names of the splits
        metadata = write_tokens(TokenizeSettings(vocab_size=vocab_size), work / "corpus", folder)
        write_atomically(described, json.dumps(metadata))
    return folder, json.loads(described.read_text(encoding="utf-8"))


def compare(options: argparse.Namespace, save: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Trains what is not yet in the folder of the work, and saves the values after every training."""
    numerics = {"device": options.device, "threads": options.threads, "precision": options.precision}
    found: dict[str, dict[str, Any]] = {}

    def run(case: Case) -> float:
        found[case.name] = _alone(case, options.corpus, options.work)
        save(values(found, options))
        return found[case.name]["perplexity"]

    def theirs(rate: float, minutes: float) -> Case:
        return Case("Trainer", **numerics, learning_rate=rate, seconds=60 * minutes)

    best = min(options.rates, key=lambda rate: run(theirs(rate, options.choose_minutes)))
    target = run(theirs(best, options.minutes))
    for steps in options.budgets:
        if run(Case("ours", **numerics, steps=steps)) <= target:
            break
    return values(found, options)


def _alone(case: Case, corpus: Path, work: Path) -> dict[str, Any]:
    """The result of a training in a process of its own, or the one that an earlier command has kept."""
    kept = work / f"{case.name}, {case.device}, {case.threads} threads, {case.precision}.json"
    if not kept.is_file():
        print(f"{case.name} trains", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", __spec__.name, "--corpus", str(corpus), "--work", str(work)]
        answer = subprocess.run(
            [*command, "--case", json.dumps(asdict(case))], stdout=subprocess.PIPE, check=True, text=True
        )
        write_atomically(kept, answer.stdout.splitlines()[-1] + "\n")
    result = json.loads(kept.read_text(encoding="utf-8"))
    print(f"{case.name}: {result['perplexity']} after {result['seconds']} s", file=sys.stderr, flush=True)
    return result


def values(found: dict[str, dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """The values of the record: the best of each side, their ratio, all trainings, and both curves."""
    theirs = {name: result for name, result in found.items() if name.endswith(f", {options.minutes:g} min")}
    best = next(iter(theirs), None)
    target = theirs[best]["perplexity"] if best else None
    ours = [name for name in found if name.startswith("ours")]
    reached = [name for name in ours if target is not None and found[name]["perplexity"] <= target]
    rows = [{"training": name, **{key: each[key] for key in each if key != "curve"}} for name, each in found.items()]
    compared = ({"Trainer": found[best]} if best else {}) | ({"ours": found[reached[0]]} if reached else {})
    return {
        "profile": PROFILES[options.device],
        "changed": ", ".join(f"{key}={value}" for key, value in CHANGED[options.device].items()) or "nothing",
        "minutes": options.minutes,
        "threads": options.threads,
        "precision": options.precision,
        "target": target,
        "seconds_to_target": {side: result["seconds"] for side, result in compared.items()},
        "times_sooner": round(found[best]["seconds"] / found[reached[0]]["seconds"], 2) if best and reached else None,
        "trainings": rows,
        "curves": [
            {"side": side, "seconds": seconds, "word_perplexity": value}
            for side, result in compared.items()
            for seconds, value in result["curve"]
        ],
    }


def draw(found: dict[str, Any], path: Path) -> None:
    """Draws both curves to an SVG file with its own background, which a README shows in any theme."""
    from matplotlib.figure import Figure

    from components.shared.report.report import logarithmic

    drawn = Figure(figsize=(7.2, 3.4), layout="constrained", facecolor="white")
    axes = drawn.subplots()
    for side, colour in {"Trainer": "#8a8f98", "ours": "#1f6feb"}.items():
        points = [(row["seconds"], row["word_perplexity"]) for row in found["curves"] if row["side"] == side]
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=colour, markersize=4)
            label = "Hugging Face Trainer, compiled" if side == "Trainer" else "Wiki-GPT"
            text = f"{label}\n{points[-1][1]:.1f} after {points[-1][0]:,.0f} s"
            offset, side_of_point = ((0, 34), "right") if side == "Trainer" else ((8, -2), "left")
            axes.annotate(text, points[-1], offset, textcoords="offset points", ha=side_of_point, color=colour)
    axes.axhline(found["target"], color="#8a8f98", linewidth=0.8, linestyle=":")
    logarithmic(axes, "y")
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("word perplexity on validation")
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="a folder with a release of WikiText-2")
    parser.add_argument("--work", type=Path, required=True, help="a folder for tokens and finished trainings")
    parser.add_argument("--device", choices=sorted(PROFILES), default="cpu")
    parser.add_argument("--minutes", type=float, default=15, help="the training time of Trainer")
    parser.add_argument(
        "--choose-minutes", type=float, default=4, help="the time in which Trainer tries each learning rate"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rates", type=float, nargs="+", default=LEARNING_RATES, help="those that Trainer tries")
    parser.add_argument("--budgets", type=int, nargs="+", help="our budgets in steps")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="by default the faster one")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw both curves to an SVG file")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    record.add_options(parser)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(Case(**options.case), options.corpus, options.work)))
        return
    options.work.mkdir(parents=True, exist_ok=True)
    options.budgets = options.budgets or BUDGETS[options.device]
    if options.precision is None:
        options.precision = measure_precision(options.device, options.threads).precision
    title = "Training time to the perplexity of Hugging Face's Trainer"
    recorder = record.Recorder(options, "time_to_perplexity", title, ["torch", "transformers", "accelerate"])
    found = compare(options, recorder.save)
    print(json.dumps(found, indent=1))
    if options.picture:
        draw(found, options.picture)


if __name__ == "__main__":
    main()
