"""A text without blanks in every step: the gate compares bytes, and no output has a number of a hundred digits."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from rich.console import Console

from components.evaluate.baselines import baselines
from components.evaluate.run import run as evaluate
from components.notify.ending import Ending, RunResult, sentence
from components.shared.base.json_values import json_value
from components.shared.report.measures import finite, format_measure
from components.shared.report.report import number
from components.shared.reuse.trained import weights_digest
from components.shared.runtime.step import Step
from components.shared.storage.manifest import read_manifest, write_manifest
from components.shared.text.units import unit_of
from components.shared.tracking import registry
from pipelines.local.summary import print_summary
from pipelines.registry.models import models
from pipelines.registry.promotion import promote
from tests.components.evaluate.conftest import make_model, texts, tokenizer, write_corpus, write_model  # noqa: F401
from tests.registry import make_folders, make_step, register
from tests.texts.corpora import without_blanks

NAME = "wikigpt-sample"
SETTINGS = {
    "threads": 1,
    "resamples": 200,
    "bleu_prompts": 2,
    "samples": 1,
    "prompt_words": 20,
    "continuation_words": 8,
}
CHINESE = without_blanks(lines=(60, 30, 30), length=(120, 200))
DIGITS = re.compile(r"\d[\d,]{17,}")


@pytest.fixture
def judged(tmp_path, monkeypatch, tracking_uri, tokenizer):  # noqa: F811
    """Evaluates a model of a seed on a text; returns evaluation.json, the report and the metrics."""
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    corpus = write_corpus(tmp_path / "corpus", CHINESE)

    def judge(seed: int, **settings: Any) -> tuple[dict[str, Any], str, dict[str, float]]:
        model = tmp_path / f"model-{seed}"
        if not model.exists():
            write_model(model, make_model(seed=seed), tokenizer)
        step, out = Step("evaluate", f"run-{seed}", {"evaluate": SETTINGS | settings}), tmp_path / f"evaluation-{seed}"
        metrics = evaluate(step, corpus, model, out, tmp_path / "report").metrics
        content = (out / "evaluation.json").read_text(encoding="utf-8")
        parsed = json.loads(content, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
        return parsed, (tmp_path / "report").read_text(encoding="utf-8"), metrics

    return judge


def test_a_first_model_is_sound_and_a_second_one_is_compared_by_bytes(judged, tracking_uri, tmp_path):
    first, report, metrics = judged(1)
    assert first["verdict"]["word"] == "promote"
    assert "bits per byte" in first["verdict"]["reason"]
    validation = first["protocols"]["wikitext-word"]["validation"]
    assert (validation["unit"], validation["word_perplexity"]) == ("byte", None)
    assert sum(piece["bytes"] for piece in validation["articles"]) == validation["bytes"]
    assert not {name for name in metrics if "word" in name}
    assert metrics["unigram_test_bits_per_byte"] == pytest.approx(first["baselines"]["byte_unigram"]["test"])
    assert not DIGITS.search(re.sub(r"<svg.*?</svg>", "", report, flags=re.DOTALL).replace("0" * 64, ""))
    assert "Bits per byte, validation" in report and "Word perplexity, test" not in report
    assert first["samples"][0]["prompt"].strip() and first["bleu"]["signature"].split("tok:")[1].startswith("char")

    weights = weights_digest(read_manifest(tmp_path / "model-1", "model"))
    client = MlflowClient(tracking_uri)
    client.create_registered_model(NAME)
    client.create_model_version(NAME, "file:///nowhere", tags={registry.WEIGHTS_DIGEST: weights})
    client.set_registered_model_alias(NAME, registry.CHAMPION, "1")
    second, report, metrics = judged(2)
    theirs = second["champion"]["protocols"]["wikitext-word"]["validation"]
    ours = second["protocols"]["wikitext-word"]["validation"]
    assert theirs["unit"] == ours["unit"] == second["verdict"]["unit"] == "byte"
    assert second["verdict"]["difference"] == pytest.approx((ours["nll"] - theirs["nll"]) / ours["bytes"])
    assert second["verdict"]["word"] == ("promote" if ours["nll"] < theirs["nll"] else "keep")
    assert metrics["champion_difference_nats_per_byte"] == second["verdict"]["difference"]
    assert "nats per byte" in second["verdict"]["reason"] and "nats per byte" in report


def evaluation_of(folders, **measures: float | None) -> None:
    """Rewrites the numbers of a written evaluation."""
    path = folders.evaluation / "evaluation.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for split in content["protocols"]["wikitext-word"].values():
        split.update(measures, unit="byte")
        for article in split["articles"]:
            article["bytes"] = 600
    path.write_text(json.dumps(content), encoding="utf-8")
    write_manifest(folders.evaluation, "evaluation", read_facts(folders.evaluation))


def read_facts(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["facts"]


def test_the_registry_and_all_who_read_it_do_without_a_word_perplexity(
    tracking_uri,
    hugging_face_folder,
    tmp_path,
    monkeypatch,
):
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    folders = make_folders(tmp_path / "a", hugging_face_folder, reuse_key="1" * 32)
    evaluation_of(folders, word_perplexity=None)
    register(make_step("run-0"), folders)
    client = MlflowClient(tracking_uri)
    version = client.get_model_version_by_alias(NAME, registry.CHAMPION)
    assert registry.score_tag("validation", "word_perplexity") not in version.tags
    assert all(finite(value) is not None for tag, value in version.tags.items() if "perplexity" in tag or "bits" in tag)
    assert "bits per byte" in version.description and "word perplexity" not in version.description
    assert "unknown" not in version.description
    [row] = models(client)
    assert (row.word_perplexity, row.bits_per_byte) == (None, pytest.approx(1.44, abs=0.1))
    promote(client, "1", reason="it is sound")


def test_a_model_that_is_no_number_leaves_no_tag_of_that_kind_and_is_not_promoted(
    tracking_uri,
    hugging_face_folder,
    tmp_path,
    monkeypatch,
):
    from components.shared.base.failure import Failure

    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    folders = make_folders(tmp_path / "a", hugging_face_folder, reuse_key="1" * 32, nll_per_word=math.nan)
    register(make_step("run-0"), folders)
    client = MlflowClient(tracking_uri)
    version = client.get_model_version(NAME, "1")
    assert version.tags[registry.VERDICT] == "invalid"
    assert not [tag for tag, value in version.tags.items() if value in ("nan", "inf", "-inf")]
    assert [row.word_perplexity for row in models(client)] == [None]
    with pytest.raises(Failure, match="not sound: its perplexity on validation is no number"):
        promote(client, "1", reason="why not")


LARGE = RunResult("train", "", "wikigpt", "4", ("champion",), 1.7483587547285708e117, "promote")


def test_a_notice_and_a_summary_are_short(capsys):
    assert "word perplexity 1.75e+117 on test" in sentence("run-1", Ending("succeeded"), LARGE)
    by_bytes = replace(LARGE, word_perplexity=None, bits_per_byte=4.39125)
    assert "bits per byte 4.3913 on test" in sentence("run-1", Ending("succeeded"), by_bytes)
    version = {
        "name": "wikigpt-语料", "version": "1", "aliases": [], "word_perplexity": 1.7e117,
        "token_perplexity": 504.0, "bits_per_byte": 4.39,
    }  # fmt: skip
    summary = {
        "run": "r", "status": "trained", "corpus": "语料", "version": version, "decision": "train", "reason": "new",
        "reused": {}, "seconds": {}, "reports": {}, "log": "log.txt",
    }  # fmt: skip
    print_summary(summary, Console(width=100), model_option=True)
    shown_ = capsys.readouterr().out
    assert "1.70e+117 on test" in shown_ and "504.00 on test" in shown_
    print_summary(summary | {"version": version | {"word_perplexity": None}}, Console(width=100), model_option=True)
    assert "Word perplexity" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "said"),
    [(139.204, "139.20"), (9_999_999, "9999999.00"), (1.7e117, "1.70e+117"), (math.inf, "infinite"),
     (math.nan, "unknown"), (None, "unknown")],
)  # fmt: skip
def test_a_measure_is_shown_in_a_dozen_signs(value, said):
    assert format_measure(value) == said


@pytest.mark.parametrize("value", [1e9, 1e15, 1.748e117, 1e308, 12345.6, 1234567890.5])
def test_a_number_of_a_report_is_short(value):
    assert len(number(float(value))) <= 13


def test_values_without_a_json_form_are_null():
    value = {"a": [1.5, math.nan, (math.inf, None)], "b": "nan", "c": True}
    assert json_value(value) == {"a": [1.5, None, [None, None]], "b": "nan", "c": True}


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("The castle was built in 1212 . \n" * 50, "word"),
        ("Die Donaudampfschifffahrtsgesellschaft fährt . \n" * 50, "word"),
        ("കേരളം ഇന്ത്യയുടെ തെക്കുപടിഞ്ഞാറേ അറ്റത്തുള്ള ഒരു സംസ്ഥാനമാണ് . \n" * 50, "word"),
        ("word\n" * 100, "word"),
        (CHINESE["test"], "byte"),
        (without_blanks()["test"], "byte"),
        ("ภาษาไทยไม่มีช่องว่างระหว่างคำในประโยคยาวๆแบบนี้\n" * 50, "byte"),
        ("x" * 400 + "\n", "byte"),
        ("", "byte"),
    ],
)
def test_where_words_mean_something(text, unit):
    from components.shared.text.articles import count_words

    assert unit_of(count_words(text), len(text.encode())) == unit


def test_the_unigram_of_bytes_is_their_entropy(tmp_path):
    text = "abcd" * 500
    (tmp_path / "train.txt").write_text(text)
    found = baselines(tmp_path / "train.txt", text, "aaaa")["byte_unigram"]
    assert found["validation"] == pytest.approx(math.log2(2256 / 501), rel=1e-9)
    assert found["test"] == pytest.approx(found["validation"])
