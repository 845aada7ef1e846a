"""The step as a whole, with a local store and MLflow on SQLite."""

from __future__ import annotations

import math

import pytest

from components.evaluate.run import run
from components.shared.manifest import read_manifest
from components.shared.step import Step
from tests.components.evaluate.conftest import write_corpus, write_model

SETTINGS = {"bleu_prompts": 4, "prompt_words": 12, "continuation_words": 8, "samples": 2, "threads": 1}


@pytest.fixture
def step(tmp_path, monkeypatch) -> Step:
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    return Step(name="evaluate", run="r1", settings={"evaluate": SETTINGS})


def test_first_model(step, tmp_path, texts, tokenizer, model):
    corpus = write_corpus(tmp_path / "corpus", texts)
    folder = write_model(tmp_path / "model", model, tokenizer, "f" * 32)
    out, report = tmp_path / "evaluation", tmp_path / "out" / "report"

    evaluated = run(step, "f" * 32, corpus, folder, out, report)

    assert evaluated.recommendation == "promote"
    read_manifest(out, "evaluation")
    assert math.isfinite(evaluated.metrics["test_word_perplexity"])
    assert report.read_text().startswith("<!doctype html>")
