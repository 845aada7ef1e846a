"""The peer of the time to perplexity: what a user of Hugging Face's `Trainer` writes, given a time to train.

It trains the same model family on blocks of the joined text, as `run_clm.py` of transformers does, with AdamW, a cosine
schedule and `torch_compile`, in the precision that this machine is fast in.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from components.train.model import model_config
from components.train.settings import TrainSettings
from tests.benchmarks import train_speed

# The shape that `train_speed` compares, with the usual settings for training from scratch.
SETTINGS: dict[str, Any] = {**train_speed.ON_CPU, "weight_decay": 0.1, "optimizer": "adamw"}
WARM_UP = 0.05  # the part of all steps in which the learning rate rises
_PROBE = (5, 25)  # steps to skip and to time, before the number of steps is chosen


class Evaluate(TrainerCallback):
    """Measures the validation perplexity at a few steps. Training time is that of the steps after the first one.

    Attributes:
        curve: seconds of training and word perplexity at each of these steps.
        first_step: the moment at which the first step ended, which includes compilation.
    """

    def __init__(self, at: set[int], measure: Callable[[Any], float]) -> None:
        self.at, self.measure = at, measure
        self.curve: list[tuple[float, float]] = []
        self.first_step = self.paused = 0.0
        self.laps: dict[int, float] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **others: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.first_step = self.first_step or now
        self.laps[state.global_step] = now - self.first_step - self.paused
        if state.global_step in self.at:
            self.curve.append((self.laps[state.global_step], self.measure(model)))
            model.train()
            self.paused += time.perf_counter() - now


def train(
    settings: TrainSettings, tokens: np.ndarray, metadata: dict[str, Any], steps: int, callback: TrainerCallback
) -> None:
    """Trains a new model by `Trainer` for so many steps."""
    torch.manual_seed(settings.seed)
    config = model_config(settings, vocab_size=metadata["vocab_size"], eos_id=metadata["eos_id"])
    model = AutoModelForCausalLM.from_config(config)
    model.config.use_cache = False
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=settings.global_batch_size,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            lr_scheduler_type="cosine",
            warmup_steps=round(WARM_UP * steps),
            seed=settings.seed,
            bf16=settings.precision == "bfloat16",
            torch_compile=True,
            use_cpu=settings.device == "cpu",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            logging_strategy="no",
        )
        count = len(tokens) // settings.sequence_length
        rows = torch.from_numpy(tokens[: count * settings.sequence_length]).long().view(count, -1)
        data = train_speed.Blocks(rows)
        Trainer(model=model, args=arguments, train_dataset=data, callbacks=[callback]).train()


def steps_in(seconds: float, settings: TrainSettings, tokens: np.ndarray, metadata: dict[str, Any]) -> int:
    """The number of steps that take so many seconds, from a few timed steps of another model."""
    probe = Evaluate(set(), lambda model: 0.0)
    skipped, timed = _PROBE
    train(settings, tokens, metadata, skipped + timed, probe)
    return max(1, round(seconds * timed / (probe.laps[skipped + timed] - probe.laps[skipped])))
