"""The step as a whole, with a local store and MLflow on SQLite."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from components.evaluate.model import load_model
from components.evaluate.run import EvaluateOutput, run
from components.evaluate.settings import EvaluateSettings
from components.shared.base.failure import Failure
from components.shared.report import report
from components.shared.reuse.trained import publish_model, weights_digest
from components.shared.runtime.step import Step
from components.shared.storage.manifest import read_manifest, write_manifest
from tests.components.evaluate.conftest import make_model, write_corpus, write_model

SETTINGS = {
    "bleu_prompts": 4,
    "prompt_words": 12,
    "continuation_words": 8,
    "samples": 2,
    "threads": 1,
    "resamples": 200,
}
NAME = "wikigpt-sample"


@dataclass(frozen=True)
class Bench:
    """The step with its inputs; each run writes to its own folders, as with KFP."""

    root: Path
    corpus: Path
    tokenizer: Any

    def model(self, seed: int = 0, **identity: Any) -> Path:
        """A model with different weights for each seed."""
        return write_model(self.root / f"model-{seed}", make_model(seed=seed), self.tokenizer, **identity)

    def run(self, model: Path, name: str, **settings: Any) -> EvaluateOutput:
        step = Step("evaluate", name, {"evaluate": SETTINGS | settings})
        return run(step, self.corpus, model, self.root / name / "evaluation", self.root / name / "report")

    def evaluation(self, name: str) -> dict[str, Any]:
        return json.loads((self.root / name / "evaluation" / "evaluation.json").read_text())


@pytest.fixture
def bench(tmp_path, monkeypatch, texts, tokenizer, tracking_uri) -> Bench:
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path, write_corpus(tmp_path / "corpus", texts), tokenizer)


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch):
    """Leaves the charts of the report empty. Drawing them takes longer than all the rest; test_report.py draws them."""
    monkeypatch.setattr(report, "_svg", lambda drawing: "<svg ></svg>")


@pytest.fixture
def client(tracking_uri) -> MlflowClient:
    return MlflowClient(tracking_uri)


def weights_of(model: Path) -> str:
    return weights_digest(read_manifest(model, "model"))


def publish(model: Path, name: str | None = None) -> None:
    """Puts a model into the store, by default under the digest of its weights."""
    Step("evaluate", "r", {}).store.publish(model, "model", name or weights_of(model))


def crown(client: MlflowClient, weights: str, **tags: str) -> str:
    """Makes a version of some weights the champion."""
    if not client.search_registered_models(f"name='{NAME}'"):
        client.create_registered_model(NAME)
    tags = {"wikigpt.weights_digest": weights} | tags if weights else tags
    version = client.create_model_version(NAME, "file:///nowhere", tags=tags).version
    client.set_registered_model_alias(NAME, "champion", version)
    return str(version)


def test_the_first_model(bench, client):
    evaluated = bench.run(bench.model(), "one")

    assert evaluated.recommendation == "promote"
    manifest = read_manifest(bench.root / "one" / "evaluation", "evaluation")
    evaluation = bench.evaluation("one")
    test = evaluation["protocols"]["wikitext-word"]["test"]
    assert (
        evaluated.metrics["test_word_perplexity"]
        == test["word_perplexity"]
        == manifest.metadata["summary"]["test_word_perplexity"]
    )
    assert (test["window"], test["stride"], test["bos"], test["dtype"]) == (32, 32, 0, "float32")
    assert evaluation["bleu"]["signature"].startswith("nrefs:1|case:mixed")
    assert evaluation["bleu"]["prompts"] == 4
    assert [set(sample) for sample in evaluation["samples"]] == [
        {"title", "prompt", "continuation", "greedy", "reference"}
    ] * 2
    assert 1 < evaluation["baselines"]["unigram"]["test"] < 71
    assert (bench.root / "one" / "report").read_text().startswith("<!doctype html>")
    [run_found] = client.search_runs([client.get_experiment_by_name("wikigpt").experiment_id])
    assert run_found.data.metrics["test_word_perplexity"] == pytest.approx(test["word_perplexity"])
    assert [each.path for each in client.list_artifacts(run_found.info.run_id, "reports")] == [
        "reports/evaluation.html"
    ]


def test_a_second_run_reuses_the_scores_and_judges_again(bench, client, capsys, monkeypatch):
    model, other = bench.model(), bench.model(seed=1)
    first = bench.run(model, "one")
    bench.run(other, "other")
    version = crown(client, weights_of(other))
    monkeypatch.setattr("components.evaluate.run.load_model", lambda *args: pytest.fail("the model is loaded again"))
    again = bench.run(model, "two", margin=0.2)

    assert '"event": "reused"' in capsys.readouterr().out
    assert again.metrics["test_word_perplexity"] == first.metrics["test_word_perplexity"]
    assert bench.evaluation("one")["verdict"]["difference"] is None
    assert bench.evaluation("two")["champion"]["version"] == version
    assert bench.evaluation("two")["verdict"]["difference"] == again.metrics["champion_difference_nats_per_word"]


def test_another_corpus_is_another_evaluation_of_the_same_weights(bench, texts):
    model = bench.model()
    first = bench.run(model, "one")
    other = write_corpus(bench.root / "other", {**texts, "validation": texts["test"]})
    second = replace(bench, corpus=other).run(model, "two")
    assert second.metrics["test_word_perplexity"] == first.metrics["test_word_perplexity"]
    assert second.metrics["validation_word_perplexity"] == first.metrics["test_word_perplexity"]


def test_a_champion_that_the_settings_do_not_fit_is_incomparable(bench, client):
    """Its training read sequences that are shorter than the stride."""
    champion = bench.model(seed=1, **{"train.sequence_length": 8})
    publish(champion)
    crown(client, weights_of(champion))
    evaluated = bench.run(bench.model(), "one", stride=16)
    assert evaluated.recommendation == "incomparable"
    assert "these settings do not fit it: A stride of 16 tokens" in bench.evaluation("one")["verdict"]["reason"]


@pytest.mark.parametrize("earlier", [False, True], ids=["by-its-weights", "by-the-fingerprint-of-an-earlier-wikigpt"])
def test_a_champion_without_scores_is_scored_anew_from_its_model(bench, client, earlier):
    champion = bench.model(seed=1)
    publish(champion, name="f" * 32 if earlier else None)
    crown(client, weights_of(champion), **({"wikigpt.fingerprint": "f" * 32} if earlier else {}))

    bench.run(bench.model(), "one")

    found = bench.evaluation("one")
    assert found["champion"]["origin"] == "scored again from its model"
    assert found["champion"]["weights_digest"] == weights_of(champion)
    assert found["verdict"]["word"] in ("promote", "keep")
    ours = found["protocols"]["wikitext-word"]["validation"]
    theirs = found["champion"]["protocols"]["wikitext-word"]["validation"]
    assert theirs["text_sha256"] == ours["text_sha256"]
    difference = (ours["nll"] - theirs["nll"]) / ours["words"]
    assert found["verdict"]["difference"] == pytest.approx(difference)


@pytest.mark.parametrize("weights", ["c" * 64, ""])
def test_a_champion_that_cannot_be_scored_is_incomparable(bench, client, weights):
    crown(client, weights)
    evaluated = bench.run(bench.model(), "one")
    assert evaluated.recommendation == "incomparable"
    verdict = bench.evaluation("one")["verdict"]
    assert verdict["alias"] == "challenger"
    assert ("neither this evaluation of weights cccccccccccc…" if weights else "has no tag") in verdict["reason"]


def test_a_repetition_with_other_weights_leaves_the_champions_model_and_scores(bench, client):
    """Both have one reuse key, and the second was trained with --force."""
    store = Step("evaluate", "r", {}).store
    champion, again = bench.model(seed=1), bench.model(seed=2)
    for model in (champion, again):
        publish_model(store, model, read_manifest(model, "model"), "k" * 32)
    bench.run(champion, "one")
    crown(client, weights_of(champion))
    (name,) = store.names("evaluation")
    before = store.find("evaluation", name), store.find("model", weights_of(champion))

    bench.run(again, "two")
    bench.run(champion, "three", stride=16)
    bench.run(again, "four", stride=16)

    assert (store.find("evaluation", name), store.find("model", weights_of(champion))) == before
    validation = {name: bench.evaluation(name)["protocols"]["wikitext-word"]["validation"] for name in ("one", "three")}
    for repeated, same in {"two": "one", "four": "three"}.items():
        found = bench.evaluation(repeated)
        assert found["champion"]["protocols"]["wikitext-word"]["validation"] == validation[same]
        assert found["weights_digest"] == weights_of(again) != found["champion"]["weights_digest"]


def test_a_repetition_is_compared_with_the_champion_whose_model_it_did_not_replace(bench, client):
    """The store has no scores of the champion by these settings, so they are computed from its model."""
    store = Step("evaluate", "r", {}).store
    champion, again = bench.model(seed=1), bench.model(seed=2)
    for model in (champion, again):
        publish_model(store, model, read_manifest(model, "model"), "k" * 32)
    crown(client, weights_of(champion))
    bench.run(again, "one")
    bench.run(champion, "two")
    scored, own = bench.evaluation("one")["champion"], bench.evaluation("two")
    assert scored["origin"] == "scored again from its model"
    assert scored["protocols"]["wikitext-word"]["validation"] == own["protocols"]["wikitext-word"]["validation"]


def test_other_weights_under_the_champions_name_are_not_taken_for_the_champion(bench, client):
    """An earlier wikigpt left them: its forced training replaced the model of its fingerprint."""
    crown(client, weights_of(bench.model(seed=1)), **{"wikigpt.fingerprint": "f" * 32})
    publish(bench.model(seed=2), name="f" * 32)
    assert bench.run(bench.model(), "one").recommendation == "incomparable"


def test_a_champion_is_not_compared_with_itself(bench, client):
    model = bench.model()
    crown(client, weights_of(model))
    evaluated = bench.run(model, "one")
    assert evaluated.recommendation == "keep"
    assert bench.evaluation("one")["verdict"]["reason"] == "The champion has the same weights."


def test_a_broken_model_is_invalid_and_still_reported(bench):
    import torch

    broken = make_model()
    with torch.no_grad():
        broken.transformer.ln_f.weight.fill_(math.nan)
    evaluated = bench.run(write_model(bench.root / "broken", broken, bench.tokenizer), "one")
    assert evaluated.recommendation == "invalid"
    page = (bench.root / "one" / "report").read_text()
    assert re.search(r"Word perplexity, test</dt>\s*<dd>nan</dd>", page)


def test_every_protocol_by_setting(bench):
    protocols = ("wikitext-word", "hf-doc", "lm-eval")
    evaluated = bench.run(bench.model(), "one", protocols=protocols, stride=16, window=48)
    found = bench.evaluation("one")["protocols"]
    assert list(found) == list(protocols)
    assert [found[name]["test"]["stride"] for name in protocols] == [16, 16, 48]
    assert found["hf-doc"]["test"]["word_perplexity"] is None
    assert evaluated.metrics["test_word_perplexity_lm_eval"] == found["lm-eval"]["test"]["word_perplexity"]
    assert "test_word_perplexity_hf_doc" not in evaluated.metrics


@pytest.mark.parametrize(
    ("identity", "window", "bos"),
    [
        ({}, 32, 0),
        ({"train.prepend_eos": False}, 32, None),
        ({"train.pretrained": "openai-community/gpt2"}, 64, 0),
        ({"train.sequence_length": 512}, 64, 0),
    ],
)
def test_a_model_is_read_as_it_was_trained(bench, identity, window, bos):
    model = bench.model(**identity)
    loaded = load_model(model, read_manifest(model, "model").metadata, EvaluateSettings(threads=1))
    assert (loaded.scorer.window, loaded.scorer.stride, loaded.trained_bos) == (window, window, bos)


def test_a_model_of_an_earlier_version_is_read_as_it_was_trained(bench):
    model = bench.model()
    metadata = read_manifest(model, "model").metadata | {"identity": {"train.block": 16, "train.document_start": False}}
    loaded = load_model(model, metadata, EvaluateSettings(threads=1))
    assert (loaded.scorer.window, loaded.trained_bos) == (16, None)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"window": 65}, "A window of 65 tokens does not fit the model's context of 64"),
        ({"stride": 40}, "A stride of 40 tokens would leave tokens between windows of 32 unscored"),
        ({"stride": 0}, "evaluate.stride must be from 1 to"),
        ({"protocols": ("wikitext",)}, "wikitext-word"),
        ({"policy": "automatic"}, "'auto', 'manual' or 'never'"),
    ],
)
def test_wrong_settings_are_one_sentence(bench, settings, says):
    model = bench.model()
    with pytest.raises(Failure) as failure:
        bench.run(model, "one", **settings)
    assert says in str(failure.value)
    assert not (bench.root / "one" / "evaluation" / "manifest.json").exists()


def test_a_model_without_its_tokenizer_is_one_sentence(bench):
    model = bench.model()
    (model / "tokenizer.json").unlink()
    write_manifest(model, "model", json.loads((model / "manifest.json").read_text())["facts"])
    with pytest.raises(Failure, match=r"The folder of the model has no tokenizer\.json"):
        bench.run(model, "one")
