"""The step with protocols that adapt: their numbers have lines of their own, and nothing else changes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from components.download.corpora import TOKENS
from components.evaluate import adaptive
from components.evaluate.adaptive import _beginning, _best, _descend, require_adaptable, score_adaptively
from components.evaluate.baselines import WIKITEXT_2_TEST_SHA256
from components.evaluate.model import load_model
from components.evaluate.perplexity import score_text
from components.evaluate.report import evaluation_page
from components.evaluate.run import run
from components.evaluate.settings import ADAPTIVE, CACHE, DYNAMIC, EvaluateSettings
from components.register.run import run as register
from components.shared.base.failure import Failure
from components.shared.report import report
from components.shared.runtime.step import Step
from components.shared.storage.manifest import read_manifest
from components.shared.tracking.gate import PROTOCOL, Scores
from pipelines.config.settings import load
from tests.components.evaluate.conftest import make_model, write_corpus, write_model
from tests.components.evaluate.test_report import CORPUS, HISTORY, MODEL
from tests.registry import make_step

SETTINGS = {"bleu_prompts": 0, "samples": 0, "threads": 1, "resamples": 100, "cache_size": 100}
PROTOCOLS = [PROTOCOL, DYNAMIC, CACHE]


@pytest.fixture
def world(tmp_path, monkeypatch, texts, tokenizer, tracking_uri) -> tuple[Path, Path]:
    """A corpus and a model, and a grid that takes no time."""
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(adaptive, "_CHARACTERS", 1500)
    monkeypatch.setattr(adaptive, "_LEARNING_RATES", (1e-3, 3e-3, 1e-2))
    monkeypatch.setattr(report, "_svg", lambda drawing: "<svg ></svg>")
    short = {split: text[:4000] for split, text in texts.items()}
    return write_corpus(tmp_path / "corpus", short), write_model(tmp_path / "model", make_model(), tokenizer)


def evaluate(world: tuple[Path, Path], name: str, protocols: list[str]) -> tuple[Any, Path]:
    root = world[0].parent / name
    step = Step("evaluate", name, {"evaluate": SETTINGS | {"protocols": protocols}})
    return run(step, *world, root / "evaluation", root / "report"), root


def content(root: Path) -> dict[str, Any]:
    return json.loads((root / "evaluation" / "evaluation.json").read_text())


def test_adapted_scores_have_lines_of_their_own_and_change_nothing_else(world, tracking_uri):
    weights = (world[1] / "model.safetensors").read_bytes()
    static, static_root = evaluate(world, "static", [PROTOCOL])
    adapted, root = evaluate(world, "adapted", PROTOCOLS)
    plain, found = content(static_root), content(root)
    scores = found.pop("adapted")
    assert plain.pop("adapted") == {}
    assert found == plain
    assert adapted.recommendation == static.recommendation
    assert (root / "evaluation" / "log_probabilities.safetensors").read_bytes() == (
        static_root / "evaluation" / "log_probabilities.safetensors"
    ).read_bytes()
    assert (world[1] / "model.safetensors").read_bytes() == weights

    headline = found["protocols"][PROTOCOL]["test"]
    for protocol in (DYNAMIC, CACHE):
        test = scores[protocol]["splits"]["test"]
        same = ("tokens", "scored_tokens", "words", "bytes", "text_sha256", "window", "stride", "bos", "unit", "cut")
        assert {name: test[name] for name in same} == {name: headline[name] for name in same}
        assert test["nll"] < headline["nll"], "this text repeats its words"
        best = min(scores[protocol]["grid"], key=lambda row: row["token_perplexity"])
        assert best.items() <= (scores[protocol]["parameters"] | {"token_perplexity": best["token_perplexity"]}).items()
        name = f"test_word_perplexity_adapted_by_{protocol.partition('+')[2]}"
        assert adapted.metrics[name] == test["word_perplexity"]
    assert {name: value for name, value in adapted.metrics.items() if "adapted" not in name} == static.metrics
    page = (root / "report").read_text()
    assert page.count("adapted while scored") >= 2
    assert "adapted while scored" not in (static_root / "report").read_text().lower()

    number = register(make_step("adapted"), "k" * 32, *world, root / "evaluation", root / "report")
    version = MlflowClient(tracking_uri).get_model_version("wikigpt-sample", number)
    value = float(version.tags["wikigpt.adapted_while_scored.dynamic.test.word_perplexity"])
    assert value == pytest.approx(scores[DYNAMIC]["splits"]["test"]["word_perplexity"], rel=1e-6)
    assert float(version.tags["wikigpt.test.word_perplexity"]) == pytest.approx(headline["word_perplexity"], rel=1e-6)
    line = f"| {DYNAMIC}, test, word perplexity | {value:.2f} |"
    _, after = version.description.split("## Perplexity, adapted while scored")
    assert line in after.splitlines()


def test_the_gate_never_reads_adapted_scores():
    score = {"text_sha256": "a", "bits_per_byte": 1.0, "articles": [{"nll": 5.0, "words": 2}] * 6}
    evaluation = {"weights_digest": "w", "protocols": {PROTOCOL: {"validation": score}}}
    better = score | {"bits_per_byte": 0.1, "articles": [{"nll": 0.1, "words": 2}] * 6}
    for protocol in ADAPTIVE:
        with_adapted = evaluation | {"adapted": {protocol: {"splits": {"validation": better}}}}
        assert Scores.from_evaluation(with_adapted, "w") == Scores.from_evaluation(evaluation, "w")
        alone = {"weights_digest": "w", "protocols": {}, "adapted": with_adapted["adapted"]}
        assert Scores.from_evaluation(alone, "w").articles == ()


@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
def test_scoring_leaves_the_model_as_it_was(world, texts, tokenizer, tmp_path, kind):
    """It was used for inference before, whose tensors take no part in gradients."""
    folder = write_model(tmp_path / kind, make_model(kind), tokenizer)
    loaded = load_model(folder, read_manifest(folder, "model").metadata, EvaluateSettings(threads=1))
    score_text(texts["test"][:2000], PROTOCOL, loaded.scorer, tokenizer, trained_bos=0)
    before = {name: value.clone() for name, value in loaded.model.state_dict().items()}
    splits = {split: texts[split][:2000] for split in ("validation", "test")}
    for protocol in ADAPTIVE:
        adapted = score_adaptively(protocol, loaded, splits, world[0] / "train.txt", 50, lambda *_: None)
        assert all(math.isfinite(score.nll) for score in adapted.splits.values())
        assert all((before[name] == value).all() for name, value in loaded.model.state_dict().items())


def test_models_that_a_protocol_does_not_suit(world):
    loaded = load_model(world[1], read_manifest(world[1], "model").metadata, EvaluateSettings(threads=1))
    bent = replace(loaded, scorer=replace(loaded.scorer, plain_head=False))
    require_adaptable(bent, (PROTOCOL, DYNAMIC))
    with pytest.raises(Failure, match=r"The logits of this model are not linear .*leave out wikitext-word\+cache"):
        require_adaptable(bent, (PROTOCOL, CACHE))
    prefixed = replace(bent, prefixed=True)
    require_adaptable(prefixed, (PROTOCOL, "hf-doc"))
    for protocol in ADAPTIVE:
        with pytest.raises(Failure, match="A model with a trained prefix cannot be scored by wikitext-word"):
            require_adaptable(prefixed, (PROTOCOL, protocol))


def test_a_prefix_is_refused_when_the_settings_are_read():
    sets = ["train.adapter=prefix", "train.optimizer=adamw", f"evaluate.protocols=[{CACHE}]"]
    with pytest.raises(Failure, match="a model with a trained prefix cannot be scored"):
        load("lora", sets)


def test_the_walk_over_the_grid_ends_at_the_lowest_value():
    for start in range(5):
        seen: list[float] = []

        def measure(value: float, seen: list[float] = seen) -> float:
            seen.append(value)
            return (value - 3) ** 2 if value < 5 else math.inf

        assert _descend([1.0, 2.0, 3.0, 4.0, 5.0], start, measure) == 3.0
        assert len(seen) == len(set(seen))
    rows = [{"a": 1.0, "token_perplexity": math.nan}, {"a": 2.0, "token_perplexity": 5.0}]
    assert _best(rows)["a"] == 2.0


def test_the_beginning_of_a_text_is_whole_lines(monkeypatch):
    monkeypatch.setattr(adaptive, "_CHARACTERS", 10)
    assert _beginning("one\ntwo\nthree\nfour\n") == "one\ntwo\n"
    assert _beginning("short\n") == "short\n"
    assert _beginning("a line of thirty characters or so") == "a line of "


def test_published_results_are_shown_for_their_text_only(world):
    assert TOKENS.files["test"].sha256 == WIKITEXT_2_TEST_SHA256
    _, root = evaluate(world, "adapted", PROTOCOLS)
    evaluation = content(root)
    assert "arXiv:1709.07432" not in (root / "report").read_text()
    for protocol in ADAPTIVE:
        evaluation["adapted"][protocol]["splits"]["test"]["text_sha256"] = WIKITEXT_2_TEST_SHA256
    page = evaluation_page(evaluation, CORPUS, MODEL, HISTORY)
    for published in ("44.3", "arXiv:1709.07432", "52", "38", "arXiv:2211.01848"):
        assert published in page
