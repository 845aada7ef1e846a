"""The steps of the pipeline in this process, at toy size, with a real store and a real registry."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.download.run import DownloadOutput
from components.download.run import run as run_download
from components.download.settings import DownloadSettings
from components.evaluate.run import run as run_evaluate
from components.evaluate.settings import EvaluateSettings
from components.register.run import run as run_register
from components.register.settings import RegisterSettings
from components.shared.runtime.step import Step, sections_for
from components.tokenize.run import run as run_tokenize
from components.tokenize.settings import TokenizeSettings
from components.train.run import run as run_train
from components.train.settings import CheckpointSettings, TrainSettings

MODEL = "wikigpt-toy"
_TRAIN: dict[str, Any] = {
    "num_hidden_layers": 1,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "context": 64,
    "sequence_length": 16,
    "global_batch_size": 4,
    "steps": 20,
    "learning_rate": 1e-2,
    "evaluate_every": 10,
    "log_every": 10,
    "threads": 1,
    "device": "cpu",
    "precision": "float32",
}
_EVALUATE: dict[str, Any] = {"bleu_prompts": 0, "samples": 0, "threads": 1, "resamples": 100, "device": "cpu"}
_WORDS = ("castle", "river", "king", "battle", "song", "tower", "bridge", "queen")


@dataclass(frozen=True)
class ToyRun:
    """One run of the pipeline, whose steps a test calls one by one.

    Attributes:
        folder: the folder of its artifacts.
        name: its run id.
        output: the outputs of its step download.
    """

    folder: Path
    name: str
    output: DownloadOutput

    @classmethod
    def start(
        cls, folder: Path, name: str, corpus: Path, tokenizer: dict[str, Any] | None = None, **train: Any
    ) -> ToyRun:
        """Runs the step download. `train` and `tokenizer` are settings of those steps."""
        sections = {
            "download": asdict(DownloadSettings(corpus=str(corpus), name="toy", force=train.pop("force", False))),
            "tokenize": asdict(TokenizeSettings(**{"vocab_size": 300, **(tokenizer or {})})),
            "train": asdict(TrainSettings(**{**_TRAIN, **train})),
            "checkpoints": asdict(CheckpointSettings(every=5)),
            "evaluate": asdict(EvaluateSettings(**_EVALUATE)),
            "register": asdict(RegisterSettings()),
        }
        step = Step("download", name, json.loads(json.dumps(sections)))
        return cls(folder / name, name, run_download(step, folder / name / "corpus"))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that the other steps receive."""
        return json.loads(self.output.settings)

    def step(self, name: str) -> Step:
        return Step(name, self.name, sections_for(name, self.output.settings))

    def tokenize(self) -> ToyRun:
        run_tokenize(self.step("tokenize"), self.output.tokens_key, self.folder / "corpus", self.folder / "tokens")
        return self

    def train(self) -> Path:
        """Runs the step train and returns the folder of the model."""
        key, level = self.output.reuse_key, self.output.reuse_level
        run_train(self.step("train"), key, self.folder / "tokens", self.folder / "model", reuse_level=level)
        return self.folder / "model"

    def register(self) -> str:
        """Runs the steps evaluate and register, and returns the number of the version."""
        corpus, model, scores, report = (self.folder / name for name in ("corpus", "model", "evaluation", "report"))
        run_evaluate(self.step("evaluate"), corpus, model, scores, report)
        return run_register(self.step("register"), self.output.reuse_key, corpus, model, scores, report)

    def finish(self) -> str:
        """Runs all steps that follow download, and returns the number of the version."""
        self.tokenize().train()
        return self.register()


def write_corpus(folder: Path, *, articles: int) -> Path:
    """A text in which every word predicts the next; a longer one begins as a shorter one does."""
    folder.mkdir(parents=True)
    for seed, (split, count) in enumerate({"train": articles, "validation": 8, "test": 8}.items()):
        random = np.random.default_rng(seed)
        (folder / f"{split}.txt").write_text("".join(_article(random) for _ in range(count)))
    return folder


def _article(random: np.random.Generator) -> str:
    chosen = [int(random.integers(len(_WORDS)))]
    for _ in range(100):
        chosen.append((3 * chosen[-1] + 1 + int(random.random() < 0.2)) % len(_WORDS))
    title = _WORDS[chosen[0]].capitalize()
    return f" \n = {title} = \n \n " + " ".join(_WORDS[each] for each in chosen) + " . \n"
