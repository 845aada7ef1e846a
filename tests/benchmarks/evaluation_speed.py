"""Speed of the evaluator against the published recipe, at the same perplexity.

    python -m tests.benchmarks.evaluation_speed --stride 128 --threads 2

Both score the same tokens with the same untrained model, in turn, by protocol `hf-doc`; the recipe is the sliding
window of the Hugging Face documentation, "Perplexity of fixed-length models". Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from components.evaluate.scoring import Scorer
from tests.benchmarks import record
from tests.components.evaluate.recipe import published_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=40_000)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--stride", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3, help="the fastest of them counts")
    record.add_options(parser)
    options = parser.parse_args()
    title = "Evaluation speed beside the recipe of Hugging Face's documentation"
    recorder = record.Recorder(options, "evaluation_speed", title, ["torch", "transformers"])
    torch.set_num_threads(options.threads)
    model = make_model(options)
    tokens = np.random.default_rng(0).integers(options.vocabulary, size=options.tokens)
    workers = options.threads if options.device == "cpu" else 1
    scorer = Scorer(model, options.window, options.stride, options.dtype, options.batch_tokens, workers)
    ids = torch.from_numpy(tokens)[None].to(options.device)
    ways: dict[str, Callable[[], float]] = {
        "recipe": lambda: published_recipe(model, ids, options.window, options.stride),
        "ours": lambda: evaluator(scorer, tokens),
    }
    perplexity, clock, processor = in_turn(ways, options.rounds)
    values = {
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
        "threads": options.threads,
        "parameters": sum(each.numel() for each in model.parameters()),
        "window": options.window,
        "stride": options.stride,
        "dtype": options.dtype,
        "tokens_per_second": {name: round(options.tokens / seconds) for name, seconds in clock.items()},
        "tokens_per_processor_second": {name: round(options.tokens / seconds) for name, seconds in processor.items()},
        "speed_up": round(clock["recipe"] / clock["ours"], 2),
        "recipe_perplexity": perplexity["recipe"],
        "relative_difference": perplexity["ours"] / perplexity["recipe"] - 1,
    }
    print(json.dumps(values, indent=1))
    recorder.save(values)


def make_model(options: argparse.Namespace) -> Any:
    torch.manual_seed(0)
    heads = options.width // 64
    config = AutoConfig.for_model(
        "qwen3",
        vocab_size=options.vocabulary,
        hidden_size=options.width,
        intermediate_size=options.width * 8 // 3 // 64 * 64,
        num_hidden_layers=options.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=64,
        max_position_embeddings=options.window,
        tie_word_embeddings=True,
    )
    return AutoModelForCausalLM.from_config(config).eval().to(options.device)


def evaluator(scorer: Scorer, tokens: np.ndarray) -> float:
    [score] = scorer.score([tokens], rolling=False)
    return math.exp(score.nll.sum() / score.scored.sum())


def in_turn(
    ways: dict[str, Callable[[], float]], rounds: int
) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """What each way returns, and the seconds of its fastest round by the clock and of all threads."""
    clock: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    returned: dict[str, float] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            began, busy = time.perf_counter(), time.process_time()
            returned[name] = way()
            clock[name].append(time.perf_counter() - began)
            processor[name].append(time.process_time() - busy)
    return returned, {name: min(each) for name, each in clock.items()}, {n: min(each) for n, each in processor.items()}


if __name__ == "__main__":
    main()
