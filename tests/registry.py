"""Inputs for tests of the registry: the folders of the earlier steps, and MLflow on SQLite without the cost of its
migrations.

Fixtures are used by importing them into a conftest.
"""

import json
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from components.shared.reuse.trained import weights_digest
from components.shared.runtime.step import Step
from components.shared.signing.keys import SIGNING_KEY
from components.shared.storage.manifest import digest_of, write_manifest
from components.shared.tracking.mlflow_database import prepare_database
from components.shared.tracking.run import EXPERIMENT

TEXT = (
    " = Castle = \n\n The castle was built in 1212 by the king of the valley . \n\n"
    " = River = \n\n The river runs from the hill to the sea and back again . \n"
)
EVALUATION = {"margin": 0.005, "confidence": 0.95, "resamples": 200, "seed": 0, "policy": "auto"}


@dataclass(frozen=True)
class Folders:
    """The inputs of the step, with the model key."""

    reuse_key: str
    corpus: Path
    model: Path
    evaluation: Path
    report: Path


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database before anything is recorded in it; copied, never used."""
    from mlflow.store.db import utils

    # MLflow computes it whenever it opens a database, by importing every migration.
    utils._get_latest_schema_revision = cache(utils._get_latest_schema_revision)
    path = tmp_path_factory.getbasetemp() / "empty-mlflow.db"
    prepare_database(path)
    return path


@pytest.fixture(scope="session")
def database_with_experiment(empty_database: Path) -> Path:
    """The same with the project's experiment, see `copy_registry`."""
    from mlflow import MlflowClient

    path = empty_database.with_name("mlflow-with-experiment.db")
    shutil.copyfile(empty_database, path)
    MlflowClient(f"sqlite:///{path}").create_experiment(EXPERIMENT)
    return path


@pytest.fixture
def tracking_uri(database_with_experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A registry in the folder of the test; MLFLOW_TRACKING_URI names it."""
    uri = copy_registry(database_with_experiment, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    return uri


def copy_registry(database_with_experiment: Path, folder: Path) -> str:
    """Copies the database into a folder, where the experiment then stores its artifacts; returns its URI."""
    path = folder / "mlflow.db"
    shutil.copyfile(database_with_experiment, path)
    with closing(sqlite3.connect(path)) as database, database:
        artifacts = str(folder / "mlartifacts")
        database.execute("UPDATE experiments SET artifact_location = ? WHERE name = ?", (artifacts, EXPERIMENT))
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def hugging_face_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 with a byte-level tokenizer."""
    return make_model(tmp_path_factory.getbasetemp() / "tiny-gpt2", "gpt2")


@cache
def make_model(folder: Path, architecture: str) -> Path:
    """A tiny model of an architecture (gpt2 or qwen3) with its tokenizer, as training saves them."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    bpe.train_from_iterator([TEXT], trainer)
    end = "<|endoftext|>"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=end, eos_token=end, pad_token=end)
    sizes: dict[str, Any] = {"n_positions": 64, "n_embd": 16, "n_layer": 1, "n_head": 2}
    if architecture == "qwen3":
        sizes = {"max_position_embeddings": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
        sizes |= {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8, "tie_word_embeddings": True}
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = AutoConfig.for_model(architecture, vocab_size=len(tokenizer), **sizes, **special)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_folders(
    root: Path,
    model: Path,
    *,
    reuse_key: str,
    nll_per_word: float = 6.0,
    weights: int = 0,
    model_name: str = "wikigpt-sample",
    text: str = TEXT,
    evaluation_key: str = "e" * 16,
) -> Folders:
    """Folders of a corpus, a model and an evaluation that scored a given NLL per word (nats); 0 leaves the weights."""
    dataset = digest_of({"train": text})
    corpus = root / "corpus"
    corpus.mkdir(parents=True)
    for split in ("train", "validation", "test"):
        (corpus / f"{split}.txt").write_text(text)
    metadata = {"name": "sample", "model_name": model_name, "dataset_digest": dataset, "published": False}
    metadata |= {"licence": "CC BY-SA 3.0", "attribution": "Made by the project.", "source": "made"}
    write_manifest(corpus, "corpus", metadata)
    shutil.copytree(model, root / "model")
    change_weights(root / "model", weights)
    (root / "model" / "history.jsonl").write_text('{"step": 1, "loss": 5.0}\n')
    metadata = {"reuse_key": reuse_key, "tokens_key": "t" * 32, "best_step": 10}
    metadata |= {"identity": {"dataset": dataset, "train.steps": 10}}
    metadata |= {"steps": 10, "validation_loss": 5.0, "tokens_seen": 640, "train_seconds": 1.5, "gpu_seconds": 0.0}
    metadata |= {"parameters": 9000, "numerics": {"device": "cpu"}, "stopped": "budget"}
    metadata |= {"dataset_digest": dataset, "tokenizer_digest": digest_of(model.name)}
    made = write_manifest(root / "model", "model", metadata)
    write_evaluation(root / "evaluation", nll_per_word, weights_digest(made), text=text, evaluation_key=evaluation_key)
    (root / "report").write_text("<!doctype html><title>report</title>")
    return Folders(reuse_key, corpus, root / "model", root / "evaluation", root / "report")


def change_weights(folder: Path, by: int) -> None:
    """Changes every weight of a Hugging Face folder by some ten-thousandths; none if that is 0."""
    from safetensors.torch import load_file, save_file

    if by:
        path = folder / "model.safetensors"
        moved = {name: tensor + by * 1e-4 for name, tensor in load_file(path).items()}
        save_file(moved, path, metadata={"format": "pt"})


def write_evaluation(
    folder: Path, nll_per_word: float, weights_digest: str, *, text: str = TEXT, evaluation_key: str = "e" * 16
) -> None:
    """The folder of an evaluation of thirty articles, each a little easier or harder than the mean."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "weights_digest": weights_digest,
        "protocols": {"wikitext-word": {split: score(nll_per_word, text) for split in ("validation", "test")}},
        "bleu": {},
        "samples": [{"prompt": "The castle", "continuation": "was built * in <b>stone</b>"}],
        "baselines": {},
        "rule": EVALUATION,
        "verdict": {"word": "promote", "reason": "The first model."},
    }
    (folder / "evaluation.json").write_text(json.dumps(content))
    metadata = {"summary": {}, "evaluation_key": evaluation_key, "weights_digest": weights_digest}
    write_manifest(folder, "evaluation", metadata)


def score(nll_per_word: float, text: str = TEXT) -> dict[str, Any]:
    """The score of a split by the headline protocol."""
    import math

    words = 100
    articles = [
        {"title": f"Article {i}", "nll": (nll_per_word + 0.01 * (i % 3 - 1)) * words, "words": words, "tokens": 150}
        for i in range(30)
    ]
    nll, tokens, count, size = sum(a["nll"] for a in articles), 30 * 150, 30 * words, 30 * 600
    return {
        "nll": nll,
        "tokens": tokens,
        "words": count,
        "bytes": size,
        "token_perplexity": math.exp(nll / tokens) if math.isfinite(nll) else nll,
        "word_perplexity": math.exp(nll / count) if math.isfinite(nll) else nll,
        "bits_per_byte": nll / math.log(2) / size,
        "text_sha256": digest_of(text),
        "window": 64,
        "stride": 64,
        "bos": True,
        "dtype": "float32",
        "articles": articles,
    }


def make_step(run: str) -> Step:
    """The context of the step in the DAG; the store is at WIKIGPT_STORE."""
    return Step("register", run, {"register": {}})


def register(step: Step, folders: Folders) -> str:
    """Runs the step."""
    from components.register.run import run

    folders_ = (folders.corpus, folders.model, folders.evaluation, folders.report)
    return run(step, folders.reuse_key, *folders_)


def another_model(
    folders: Folders, root: Path, reuse_key: str, nll_per_word: float, *, weights: int | None = None
) -> Folders:
    """A model of the same corpus with its evaluation; its weights are those of its model key, unless others are asked
    for, as by a training that is repeated on another machine."""
    model = root / "model"
    shutil.copytree(folders.model, model)
    change_weights(model, int(reuse_key[0], 16) if weights is None else weights)
    manifest = json.loads((model / "manifest.json").read_text())
    made = write_manifest(model, "model", {**manifest["facts"], "reuse_key": reuse_key})
    write_evaluation(root / "evaluation", nll_per_word, weights_digest(made))
    return replace(folders, reuse_key=reuse_key, model=model, evaluation=root / "evaluation")


def make_version(client: Any, model: str, nll_per_word: float) -> str:
    """A version with the numbers of an evaluation and no model behind it, for tests of aliases."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(model)
    except MlflowException as error:
        assert error.error_code == "RESOURCE_ALREADY_EXISTS"
    perplexity = score(nll_per_word)["word_perplexity"]
    tags = {"wikigpt.validation.word_perplexity": str(perplexity), "wikigpt.nll_per_word": str(nll_per_word)}
    tags["wikigpt.weights_digest"] = digest_of(nll_per_word)
    return str(client.create_model_version(model, "file:///nowhere", tags=tags).version)


def judge_of(nll_per_word: float, **rule: Any) -> Any:
    """The gate for a version of `make_version` against any other."""
    from components.shared.tracking.gate import Rule, Scores, gate

    def scores(nll: float, weights: str) -> Scores:
        evaluation = {"weights_digest": digest_of(nll), "protocols": {"wikitext-word": {"validation": score(nll)}}}
        return Scores.from_evaluation(evaluation, weights)

    def judge(champion: Any) -> Any:
        tags = champion.tags if champion else {}
        theirs = scores(float(tags["wikigpt.nll_per_word"]), tags["wikigpt.weights_digest"]) if champion else None
        return gate(scores(nll_per_word, digest_of(nll_per_word)), theirs, Rule(resamples=100, **rule))

    return judge


def register_two(root: Path, database_with_experiment: Path, model: Path, key: Path | None = None) -> None:
    """Registers version 1 and a worse version 2 in a registry in a folder; with a key, version 1 is signed."""
    before = dict(os.environ)
    uri = copy_registry(database_with_experiment, root)
    os.environ.update(MLFLOW_TRACKING_URI=uri, WIKIGPT_STORE=str(root / "store"), WIKIGPT_COMMIT="c0ffee")
    try:
        first = make_folders(root / "a", model, reuse_key="1" * 32, nll_per_word=5.0)
        if key:
            os.environ[SIGNING_KEY] = str(key)
        register(make_step("run-1"), first)
        if key:
            del os.environ[SIGNING_KEY]
        register(make_step("run-2"), another_model(first, root / "b", "2" * 32, 6.0))
    finally:
        os.environ.clear()
        os.environ.update(before)
