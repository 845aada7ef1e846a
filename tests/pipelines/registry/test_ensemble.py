"""Versions that are scored together: the same perplexity as from the softmax of their models."""

from __future__ import annotations

import json
import math
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from components.evaluate.log_probabilities import (
    KeptLogProbabilities,
    read_log_probabilities,
    write_log_probabilities,
)
from components.evaluate.perplexity import TokenScores, _encode
from components.evaluate.run import run as evaluate
from components.evaluate.texts import wikitext_word
from components.register.run import run as register
from components.shared.base.failure import ExitCode, Failure
from components.shared.report import report
from components.shared.runtime.step import Step
from components.shared.storage.manifest import read_manifest, write_manifest
from components.shared.tracking import registry
from components.shared.tracking.run import EXPERIMENT
from components.shared.tracking.sqlite_registry import sqlite_registry
from pipelines.registry.ensemble import fitted_weights, mean_log_probability, score_ensemble
from tests.components.evaluate.conftest import make_model, texts, tokenizer, write_corpus, write_model  # noqa: F401
from tests.pipelines.cli.test_imports import COMMAND, loaded
from tests.pipelines.conftest import Command
from tests.registry import copy_registry, make_step

NAME = "wikigpt-sample"
SETTINGS = {"bleu_prompts": 0, "samples": 0, "threads": 1, "resamples": 100}
WINDOW = 32
PLACES = {"word_perplexity": 2, "token_perplexity": 2, "bits_per_byte": 4}


@pytest.fixture(scope="module")
def _evaluated(tmp_path_factory, database_with_experiment, texts, tokenizer) -> Path:  # noqa: F811
    """A registry that is only read. Versions 1 and 2 fit together, 3 kept no log-probabilities, 4 was scored with
    another stride, 5 has another tokenizer, and 6 is broken. The steps made the first three, and the others have a file
    that differs from that of version 1 in one thing."""
    root = tmp_path_factory.mktemp("ensemble")
    before, drawing = dict(os.environ), report._svg
    os.environ.update(MLFLOW_TRACKING_URI=copy_registry(database_with_experiment, root), WIKIGPT_STORE=f"{root}/store")
    report._svg = lambda drawing: "<svg ></svg>"
    torch.set_num_threads(1)
    try:
        corpus = write_corpus(root / "corpus", texts)
        for seed in range(3):
            evaluate_and_register(root / str(seed), corpus, tokenizer, seed=seed, keep=seed != 2)
        client = MlflowClient()
        kept = read_log_probabilities(root / "0" / "evaluation" / registry.LOG_PROBABILITIES)
        test = kept.splits["test"]
        broken = np.full_like(test.log_probabilities, np.nan)
        for other in (
            replace(kept, splits={**kept.splits, "test": replace(test, score={**test.score, "stride": 16})}),
            replace(kept, tokenizer_digest="t" * 64),
            replace(kept, splits={**kept.splits, "test": replace(test, log_probabilities=broken)}),
        ):
            register_file(client, other, root)
    finally:
        os.environ.clear()
        os.environ.update(before)
        report._svg = drawing
    return root


def evaluate_and_register(
    folder: Path,
    corpus: Path,
    tokenizer: Any,  # noqa: F811
    *,
    seed: int,
    keep: bool = True,
) -> str:
    """Runs the steps for an untrained model; without `keep`, like an earlier release that kept no log-probabilities."""
    model = write_model(folder / "model", make_model(seed=seed), tokenizer)
    step = Step("evaluate", f"run-{seed}", {"evaluate": SETTINGS})
    evaluate(step, corpus, model, folder / "evaluation", folder / "report")
    if not keep:
        (folder / "evaluation" / registry.LOG_PROBABILITIES).unlink()
        metadata = json.loads((folder / "evaluation" / "manifest.json").read_text())["facts"]
        write_manifest(folder / "evaluation", "evaluation", metadata)
    return register(make_step(step.run), f"{seed}" * 32, corpus, model, folder / "evaluation", folder / "report")


def register_file(client: MlflowClient, kept: KeptLogProbabilities, folder: Path) -> None:
    """A version of no model, with this file."""
    scores = {split: Written(each.score) for split, each in kept.splits.items()}
    tokens = {
        split: TokenScores(each.tokens, -each.log_probabilities.astype(np.float64), each.articles)
        for split, each in kept.splits.items()
    }
    digests = {"weights_digest": kept.weights_digest, "tokenizer_digest": kept.tokenizer_digest}
    path = folder / registry.LOG_PROBABILITIES
    write_log_probabilities(path, scores, tokens, protocol=kept.protocol, **digests)  # type: ignore[arg-type]
    run = client.create_run(client.get_experiment_by_name(EXPERIMENT).experiment_id).info.run_id
    client.log_artifact(run, str(path), registry.evaluation_folder(kept.weights_digest))
    tags = {registry.EVALUATION_RUN: run, registry.WEIGHTS_DIGEST: kept.weights_digest}
    client.create_model_version(NAME, "file:///nowhere", tags=tags)


@dataclass(frozen=True)
class Written:
    """The score of a split as a dictionary."""

    score: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return self.score


@pytest.fixture
def evaluated(_evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    uri = f"sqlite:///{_evaluated / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return MlflowClient(uri)


def token_probabilities(seed: int, text: str, tokenizer: Any) -> np.ndarray:  # noqa: F811
    """The probability of each token by the model itself, in the windows of the evaluation, one after another."""
    model = make_model(seed=seed)
    encoded = [_encode(tokenizer, document.parts) for document in wikitext_word(text).documents]
    ids = torch.tensor([0, *np.concatenate(encoded)])
    found = np.zeros(len(ids))
    for start in range(0, len(ids) - 1, WINDOW):
        end = min(start + WINDOW + 1, len(ids))
        begin = max(0, end - WINDOW - 1)
        with torch.no_grad():
            probabilities = model(ids[None, begin : end - 1]).logits[0].double().softmax(-1)
        for index in range(start + 1, end):
            found[index] = probabilities[index - begin - 1, ids[index]]
    return found[1:]


def test_the_perplexity_is_that_of_the_mean_of_both_models_probabilities(evaluated, _evaluated, texts, tokenizer):  # noqa: F811
    for client in (evaluated, sqlite_registry(evaluated.tracking_uri)):
        scored = score_ensemble(client, ["1", "2"])
        for split in ("validation", "test"):
            each = [token_probabilities(seed, texts[split], tokenizer) for seed in (0, 1)]
            document = texts[split]
            words = sum(piece.words for piece in wikitext_word(document).documents)
            nll = -np.log((each[0] + each[1]) / 2).sum()
            together = getattr(scored, split)
            assert together.word_perplexity == pytest.approx(math.exp(nll / words), rel=1e-3)
            assert together.token_perplexity == pytest.approx(math.exp(nll / len(each[0])), rel=1e-4)
            assert together.bits_per_byte == pytest.approx(nll / math.log(2) / len(document.encode()), rel=1e-5)
            for member, probabilities in zip(scored.members, each, strict=True):
                alone = getattr(member, split).token_perplexity
                assert alone == pytest.approx(math.exp(-np.log(probabilities).mean()), rel=1e-5)
                assert together.token_perplexity < alone


def test_fitted_weights_are_the_best_of_a_fine_grid():
    draw = np.random.default_rng(0)
    log_probabilities = -draw.gamma(1.2, 3.4, size=(2, 5000)) - np.array([[0.0], [0.3]])
    fitted = fitted_weights(log_probabilities)
    grid = np.linspace(0.001, 0.999, 999)
    likelihood = [mean_log_probability(log_probabilities, [w, 1 - w]).mean() for w in grid]
    assert sum(fitted) == pytest.approx(1)
    assert fitted[0] == pytest.approx(grid[int(np.argmax(likelihood))], abs=0.01)
    assert mean_log_probability(log_probabilities, fitted).mean() >= max(likelihood) - 1e-6


def test_fitted_weights_lower_validation(evaluated):
    equal, fitted = (score_ensemble(evaluated, ["1", "2"], fit_weights=fit) for fit in (False, True))
    assert [member.weight for member in equal.members] == [0.5, 0.5]
    assert fitted.validation.word_perplexity <= equal.validation.word_perplexity


@pytest.mark.parametrize(
    ("references", "says"),
    [
        (["1"], "An ensemble needs two versions or more"),
        (["1", "01"], "Version 1 is named twice"),
        (["2", "models:/wikigpt-sample/2"], "Version 2 is named twice"),
        (["1", "2", "4"], "different stride on test (versions 1, 2 / version 4)"),
        (["1", "5", "2"], "the same tokenizer (versions 1, 2 / version 5)"),
        (["1", "3"], "version 3 kept no log-probabilities"),
        (["1", "6"], "Version 6 has log-probabilities that are not finite"),
        (["1", "9"], "wikigpt-sample has no version 9"),
    ],
)
def test_versions_that_do_not_fit_are_one_sentence(command: Command, evaluated, tmp_path, references, says):
    code, out, err = command("ensemble", *references, "--home", tmp_path)
    assert (code, out) == (ExitCode.USAGE, "")
    assert len(err.splitlines()) == 1
    assert says in err


def test_other_texts_and_names_are_refused(evaluated, _evaluated, tmp_path, monkeypatch, texts, tokenizer):  # noqa: F811
    """In a copy of the registry, since the shared one is only read."""
    shutil.copyfile(_evaluated / "mlflow.db", tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(report, "_svg", lambda drawing: "<svg ></svg>")
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    other = write_corpus(tmp_path / "corpus", {**texts, "test": texts["validation"]})
    number = evaluate_and_register(tmp_path / "other", other, tokenizer, seed=6)
    with pytest.raises(Failure, match=rf"different text on test \(version 1 / version {number}\)"):
        score_ensemble(client, ["1", number])
    client.copy_model_version(f"models:/{NAME}/2", "other")
    with pytest.raises(Failure, match=r"of one registered model, and these are of other and wikigpt-sample"):
        score_ensemble(client, [f"models:/{NAME}/1", "models:/other/1"])


def test_an_earlier_version_gets_them_when_its_weights_are_evaluated_again(
    _evaluated, tmp_path, monkeypatch, tokenizer  # noqa: F811
):  # fmt: skip
    shutil.copyfile(_evaluated / "mlflow.db", tmp_path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("WIKIGPT_STORE", str(_evaluated / "store"))
    monkeypatch.setattr(report, "_svg", lambda drawing: "<svg ></svg>")
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    before = client.get_model_version(NAME, "3")
    model, corpus, again = _evaluated / "2" / "model", _evaluated / "corpus", tmp_path / "again"
    step = Step("evaluate", "again", {"evaluate": SETTINGS})
    evaluate(step, corpus, model, again / "evaluation", again / "report")
    assert read_manifest(again / "evaluation", "evaluation").files[registry.LOG_PROBABILITIES]
    try:
        assert register(make_step("again"), "2" * 32, corpus, model, again / "evaluation", again / "report") == "3"
        assert len(score_ensemble(client, ["1", "3"]).members) == 2
        assert client.get_model_version(NAME, "3").tags == before.tags
    finally:  # the artifacts are those of the shared registry
        kept = registry.log_probabilities_of(client, before, tmp_path / "downloaded")
        registry.log_probabilities_of(sqlite_registry(client.tracking_uri), before, tmp_path).unlink()  # type: ignore
    assert kept is not None


def test_the_command_prints_a_table_and_json(command: Command, evaluated, tmp_path):
    code, out, err = command("ensemble", "1", "2", "--home", tmp_path, "--json")
    document = json.loads(out)
    assert (code, err) == (0, "")
    assert [member["version"] for member in document["members"]] == ["1", "2"]
    assert (document["window"], document["stride"], document["fitted"]) == (WINDOW, WINDOW, False)
    code, out, err = command("ensemble", "1", "2", "--home", tmp_path, "--fit-weights")
    assert code == 0 and "the weights are chosen on validation" in err
    rows = [line.split() for line in out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["1", "test", "2", "test", "together", "test"]
    assert rows[1][1:] == [f"{document['members'][0]['test'][name]:.{places}f}" for name, places in PLACES.items()]


def test_it_needs_neither_torch_nor_mlflow_for_a_database_on_this_machine(evaluated, tmp_path):
    uri = evaluated.tracking_uri
    needed = loaded(COMMAND, "ensemble", "1", "2", WIKIGPT_HOME=str(tmp_path), MLFLOW_TRACKING_URI=uri)
    assert needed <= {"pydantic"}
