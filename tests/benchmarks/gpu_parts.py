"""The parts of tests/benchmarks/gpu_session.py: `python -m tests.benchmarks.gpu_parts NAME` is the process of one.

A part prints its values as one line of JSON, the last line of its output.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from components.evaluate.scoring import Scorer
from components.shared.base.failure import Interrupted
from components.shared.model.head import has_linear_lm_head
from components.shared.storage.manifest import read_manifest, write_manifest
from components.shared.text.units import word_perplexity
from components.tokenize.run import write_tokens
from components.tokenize.settings import TokenizeSettings
from components.train.data import TokenSplit, open_data
from components.train.device import prepare
from components.train.loop import budget, train
from components.train.model import build_model, model_config, save_model
from components.train.settings import TrainSettings
from pipelines.config.settings import load
from tests.benchmarks import train_speed
from tests.benchmarks.grown_corpus import grow

TOY_SHAPE = {"num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 1, "context": 64, "sequence_length": 32}


@dataclass(frozen=True)
class Session:
    """What the parts share.

    Attributes:
        toy: whether every part runs on the CPU at toy size.
        corpus: a folder with the three splits.
        tokens: a folder of kind tokens, or None to make it from the corpus.
        work: the folder in which parts leave files for later parts.
        seconds: how long the profile trains.
    """

    toy: bool
    corpus: Path
    tokens: Path | None
    work: Path
    seconds: float

    @cached_property
    def device(self) -> torch.device:
        return torch.device("cpu" if self.toy else "cuda")

    @cached_property
    def precision(self) -> str:
        return "float32" if self.toy else "bfloat16"

    @cached_property
    def gpt2(self) -> TrainSettings:
        """GPT-2 124M from scratch, in micro-batches of 16 sequences that fit most GPUs."""
        shape: dict[str, Any] = {**train_speed.ON_GPU, "gradient_accumulation_steps": 4}
        if self.toy:
            shape |= {**TOY_SHAPE, "global_batch_size": 4, "gradient_accumulation_steps": 2}
        return TrainSettings(
            steps=1, device=self.device.type, precision=self.precision, compile=True, threads=1, **shape
        )

    @cached_property
    def vocab_size(self) -> int:
        return 300 if self.toy else train_speed.VOCABULARY["cuda"]

    @property
    def made_tokens(self) -> Path:
        return self.tokens or self.work / "tokens"

    @property
    def model(self) -> Path:
        return self.work / "model"


def device(session: Session) -> dict[str, Any]:
    """The device and what it runs on."""
    found: dict[str, Any] = {"device": "cpu", "torch": torch.__version__, "cuda": str(torch.version.cuda)}
    if session.device.type == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "device": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_gb": round(properties.total_memory / 1e9, 1),
            "multiprocessors": properties.multi_processor_count,
        }
    return found


def matmul(session: Session) -> dict[str, Any]:
    """TFLOP/s of square matrix products, the best of ten. Inputs of float8 are E4M3 with one scale for each matrix."""
    size = 256 if session.toy else 8192
    found: dict[str, Any] = {"size": size}
    for precision in ("bfloat16", "float32"):
        found[f"{precision}_tflops"] = _tera(train_speed.ceiling(precision, session.device, size))
    if session.device.type == "cuda":
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        found["tf32_tflops"] = _tera(train_speed.ceiling("float32", session.device, size))
    try:
        found["float8_tflops"] = _tera(_float8(size, session.device))
    except (RuntimeError, ValueError, NotImplementedError, AttributeError) as error:
        found["float8_unavailable"] = str(error).partition("\n")[0]
    return found


def gpt2_cold_start(session: Session) -> dict[str, Any]:
    """Seconds to the end of the first compiled step, after the imports, with an empty compile cache."""
    shutil.rmtree(os.environ["TORCHINDUCTOR_CACHE_DIR"], ignore_errors=True)
    return {"first_step_seconds": round(train_speed.first_step(session.gpt2, session.vocab_size), 1)}


def gpt2_warm_start(session: Session) -> dict[str, Any]:
    """The same with the compile cache that the cold start filled."""
    if not Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]).is_dir():
        raise FileNotFoundError("the compile cache is empty: run the part gpt2_cold_start first")
    return {"first_step_seconds": round(train_speed.first_step(session.gpt2, session.vocab_size), 1)}


def gpt2_speed(session: Session) -> dict[str, Any]:
    """Tokens a second of the loop, and MFU. The trainer has no products in float8; `matmul` has their ceiling."""
    speed = train_speed.ours(session.gpt2, session.vocab_size, 3 if session.toy else 30)
    parameters = _parameters(session.gpt2, session.vocab_size)
    peak = train_speed.ceiling(session.precision, session.device, 256 if session.toy else 8192)
    return {
        "parameters": parameters,
        "tokens_per_second": round(speed),
        "mfu": round(train_speed.flop_per_token(session.gpt2, parameters) * speed / peak, 3),
        "peak_memory_gb": _peak_memory(),
    }


def tokens(session: Session) -> dict[str, Any]:
    """Seconds to make the tokens of the profile, unless they were carried along."""
    began = time.perf_counter()
    if session.tokens is None:
        text, folder = session.work / "corpus", session.work / "tokens"
        for old in (text, folder):
            shutil.rmtree(old, ignore_errors=True)
        grow(session.corpus, text, 1)
        settings = TokenizeSettings(vocab_size=300) if session.toy else load("scratch-modern").tokenize
        write_manifest(folder, "tokens", write_tokens(settings, text, folder))
    made = read_manifest(session.made_tokens, "tokens")
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "carried": session.tokens is not None,
        "train_tokens": made.metadata["splits"]["train"]["tokens"],
    }


def finetune(session: Session) -> dict[str, Any]:
    """Speed and memory of the profile `finetune` on random weights of GPT-2 124M, in a folder as the Hub has it."""
    folder = session.work / "random-gpt2"
    shape = replace(session.gpt2, **(TOY_SHAPE if session.toy else {}))
    config = model_config(shape, vocab_size=session.vocab_size, eos_id=0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    asked: dict[str, Any] = {"pretrained": str(folder), "revision": None, "threads": 1}
    if session.toy:
        asked |= {"sequence_length": 32, "global_batch_size": 4, "device": "cpu", "precision": "float32"}
        asked |= {"compile": False}
    settings = replace(load("finetune", ["train.pretrained=/none", "train.revision=null"]).train, **asked)
    speed = train_speed.ours(settings, session.vocab_size, 3 if session.toy else 30, folder)
    return {"tokens_per_second": round(speed), "peak_memory_gb": _peak_memory()}


def scratch_modern(session: Session) -> dict[str, Any]:
    """The profile `scratch-modern` for some minutes, with its curve; its budget is longer on a slow GPU."""
    made = read_manifest(session.made_tokens, "tokens")
    settings = load("scratch-modern").train
    if session.toy:
        small: dict[str, Any] = {**TOY_SHAPE, "global_batch_size": 4, "steps": 8, "evaluate_every": 4, "threads": 1}
        settings = replace(settings, **small, device="cpu", precision="float32", compile=False, log_every=4)
    prepare(settings, session.device)
    data = open_data(settings, made.metadata, session.made_tokens, session.device)
    vocab_size, eos_id = made.metadata["vocab_size"], made.metadata["eos_id"]
    model = build_model(settings, vocab_size=vocab_size, eos_id=eos_id)
    steps, began, rows = budget(settings, data.train.steps_per_epoch), time.monotonic(), list[dict[str, Any]]()

    def observe(row: dict[str, Any]) -> None:
        if "validation_loss" in row:
            perplexity = word_perplexity(row["validation_loss"], made.metadata["splits"]["validation"])
            seconds = round(time.monotonic() - began, 1)
            rows.append({"step": row["step"], "seconds": seconds, "validation_word_perplexity": perplexity})

    def late() -> bool:
        return time.monotonic() - began > session.seconds

    on_device: Any = torch.nn.Module.to(model, session.device)
    done: dict[str, Any] = {"steps_of_the_budget": steps, "ended": "budget"}
    try:
        train(on_device, data, settings, steps=steps, device=session.device, observe=observe, stop_requested=late)
    except Interrupted:
        done["ended"] = "time"
    save_model(model, session.model, vocab_size=vocab_size, eos_id=eos_id)
    best = min((row["validation_word_perplexity"] for row in rows), default=math.nan)
    return {**done, "best_validation_word_perplexity": best, "peak_memory_gb": _peak_memory(), "curve": rows}


def evaluation(session: Session) -> dict[str, Any]:
    """The model that `scratch_modern` left, on the validation tokens in windows of 512, in both precisions."""
    if not (session.model / "model.safetensors").is_file():
        raise FileNotFoundError("there is no model: run the part scratch_modern first")
    made = read_manifest(session.made_tokens, "tokens")
    split = TokenSplit.open(session.made_tokens, "validation", made.metadata["dtype"], None)
    ids = split.ids[: 2000 if session.toy else None].astype(np.int64)
    model: Any = AutoModelForCausalLM.from_pretrained(session.model, dtype=torch.float32).eval().to(session.device)
    window = min(512, model.config.max_position_embeddings)
    found: dict[str, Any] = {"tokens": len(ids)}
    for dtype in ("float32", "bfloat16"):
        batch = 2048 if session.toy else 65_536
        scorer = Scorer(model, window, window, dtype, batch, plain_head=has_linear_lm_head(model))
        scorer.score([ids[: 4 * window]], rolling=False)  # the first products load the kernels
        began = time.perf_counter()
        [score] = scorer.score([ids], rolling=False)
        found[f"{dtype}_tokens_per_second"] = round(len(ids) / (time.perf_counter() - began))
        found[f"{dtype}_token_perplexity"] = math.exp(score.nll.sum() / score.scored.sum())
    found["relative_difference"] = found["bfloat16_token_perplexity"] / found["float32_token_perplexity"] - 1
    return found


PARTS: dict[str, Callable[[Session], dict[str, Any]]] = {
    part.__name__: part
    for part in (
        device,
        matmul,
        gpt2_cold_start,
        gpt2_warm_start,
        gpt2_speed,
        tokens,
        finetune,
        scratch_modern,
        evaluation,
    )
}


def _float8(size: int, device: torch.device) -> float:
    left, right = (torch.randn(size, size, device=device).to(torch.float8_e4m3fn) for _ in range(2))
    scale = torch.ones((), device=device)

    def product() -> torch.Tensor:
        return torch._scaled_mm(left, right.t(), scale_a=scale, scale_b=scale, out_dtype=torch.bfloat16)

    return 2 * size**3 / min(train_speed.seconds_of(product, device) for _ in range(10))


def _tera(value: float) -> float:
    return round(value / 1e12, 3)


def _parameters(settings: TrainSettings, vocab_size: int) -> int:
    return sum(weight.numel() for weight in build_model(settings, vocab_size=vocab_size, eos_id=0).parameters())


def _peak_memory() -> float:
    """In 10^9 bytes; 0 on a CPU."""
    return round(torch.cuda.max_memory_allocated() / 1e9, 1) if torch.cuda.is_available() else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--tokens", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=240.0)
    asked = parser.parse_args()
    session = Session(asked.toy, asked.corpus, asked.tokens, asked.work, asked.seconds)
    print(json.dumps(PARTS[asked.part](session)))


if __name__ == "__main__":
    main()
