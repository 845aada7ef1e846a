"""The step that scores the model, compares it with the champion and recommends."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from components.evaluate.baselines import baselines
from components.evaluate.champion import KIND, Champion, find_champion, published
from components.evaluate.log_probabilities import write_log_probabilities
from components.evaluate.measure import ModelScores, Progress, evaluation_key, perplexities, score_model
from components.evaluate.model import load_model
from components.evaluate.report import evaluation_page
from components.evaluate.settings import EvaluateSettings
from components.shared.base.events import emit
from components.shared.base.json_values import json_value
from components.shared.report.measures import finite
from components.shared.reuse.trained import weights_digest
from components.shared.runtime.step import Step
from components.shared.storage.files import write_atomically
from components.shared.storage.manifest import read_manifest, write_manifest
from components.shared.text.articles import HELD_OUT, SPLIT_FILE
from components.shared.tracking import registry
from components.shared.tracking.gate import PROTOCOL, Rule, Scores, Verdict, gate


@dataclass(frozen=True)
class EvaluateOutput:
    """The outputs of the step besides its folder.

    Attributes:
        recommendation: `promote`, `keep`, `incomparable` or `invalid`.
        metrics: the headline numbers by name.
    """

    recommendation: str
    metrics: dict[str, float]

    def write_metrics(self, path: Path) -> None:
        """Writes the file of the KFP artifact, which is uploaded in addition to the metrics in ML Metadata."""
        write_atomically(path, json.dumps(self.metrics, indent=1))


def run(step: Step, corpus_dir: Path, model_dir: Path, evaluation_dir: Path, report_path: Path) -> EvaluateOutput:
    """Scores the model, or reuses stored scores of its weights, and compares them with the champion's scores.

    Args:
        step: the context of the step.
        corpus_dir, model_dir: the folders of the earlier steps.
        evaluation_dir: the output folder, for `evaluation.json`, `evaluation.html` and `log_probabilities.safetensors`.
        report_path: the output file for a copy of the report.

    Raises:
        Failure: a folder is damaged, or the model cannot be scored with these settings.
    """
    settings = step.section(EvaluateSettings)
    corpus, model = read_manifest(corpus_dir, "corpus"), read_manifest(model_dir, "model")
    texts = {split: (corpus_dir / SPLIT_FILE[split]).read_bytes().decode() for split in HELD_OUT}
    key, weights = evaluation_key(settings, corpus.metadata["dataset_digest"]), weights_digest(model)
    if evaluation := published(step, weights, key, evaluation_dir):
        emit("reused", step="evaluate", what=f"scores {key}")
    else:
        train = corpus_dir / SPLIT_FILE["train"]
        scores = _evaluate(model_dir, model.metadata, train, texts, settings)
        _keep_log_probabilities(evaluation_dir, scores, weights)
        found = {
            "baselines": baselines(train, texts["validation"], texts["test"]),
            "merged": model.metadata.get("merged", True),
        }
        evaluation = scores.to_dict() | found | {"weights_digest": weights}
    champion = find_champion(
        step,
        corpus.metadata["model_name"],
        key,
        lambda folder, metadata: _validate_only(folder, metadata, texts["validation"], settings),
    )
    rule = Rule.from_settings(asdict(settings))
    verdict = _verdict_of(evaluation, weights, champion, rule)
    emit("note", text=f"{verdict.word}: {verdict.reason}")
    # The step that registers the model applies the same rule, and reads no settings of this step.
    evaluation |= {"rule": asdict(rule), "verdict": asdict(verdict)}
    evaluation["champion"] = _described(champion)
    metrics = _metrics(evaluation)
    content = json.dumps(json_value(evaluation), indent=1, allow_nan=False)
    write_atomically(evaluation_dir / registry.EVALUATION, content + "\n")
    page = evaluation_page(evaluation, corpus.metadata, model.metadata, _history(model_dir))
    write_atomically(evaluation_dir / "evaluation.html", page)
    metadata = {"summary": metrics, "evaluation_key": key, "weights_digest": weights, "verdict": verdict.word}
    write_manifest(evaluation_dir, KIND, metadata)
    step.store.publish(evaluation_dir, KIND, f"{weights}/{key}")
    report_path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(evaluation_dir / "evaluation.html", report_path)
    step.tracking.metrics(metrics)
    step.tracking.artifact(evaluation_dir / "evaluation.html", "reports")
    step.findings.update(report=step.tracking.address("reports/evaluation.html"))
    return EvaluateOutput(verdict.word, metrics)


def _evaluate(
    folder: Path, metadata: dict[str, Any], train: Path, texts: Mapping[str, str], settings: EvaluateSettings
) -> ModelScores:
    return score_model(load_model(folder, metadata, settings), texts, train, settings, _progress_reporter())


def _validate_only(folder: Path, metadata: dict[str, Any], text: str, settings: EvaluateSettings) -> ModelScores:
    loaded = load_model(folder, metadata, settings)
    return perplexities(loaded, {"validation": text}, (PROTOCOL,), _progress_reporter())


def _keep_log_probabilities(folder: Path, scores: ModelScores, weights: str) -> None:
    write_log_probabilities(
        folder / registry.LOG_PROBABILITIES,
        scores.protocols[PROTOCOL],
        scores.tokens,
        protocol=PROTOCOL,
        weights_digest=weights,
        tokenizer_digest=scores.tokenizer_digest,
    )


def _verdict_of(evaluation: Mapping[str, Any], weights: str, champion: Champion | None, rule: Rule) -> Verdict:
    ours = Scores.from_evaluation(evaluation, weights)
    if champion is None:
        return gate(ours, None, rule)
    verdict = gate(ours, Scores.from_evaluation(champion.evaluation, champion.weights_digest), rule)
    if verdict.word == "incomparable" and champion.evaluation is None:
        return replace(verdict, reason=f"The champion cannot be scored: {champion.origin}.")
    return verdict


def _described(champion: Champion | None) -> dict[str, Any] | None:
    """Returns the champion's entry in evaluation.json, with the validation scores that were compared."""
    if champion is None:
        return None
    known = champion.evaluation or {}
    validation = known.get("protocols", {}).get(PROTOCOL, {}).get("validation")
    return {
        "version": champion.version,
        "weights_digest": known.get("weights_digest", ""),
        "origin": champion.origin,
        "tokenizer_digest": known.get("tokenizer_digest", ""),
        "merged": known.get("merged", True),
        **{
            f"test_{measure}": finite(champion.tags.get(registry.score_tag("test", measure)))
            for measure in registry.MEASURES
        },
        "protocols": {PROTOCOL: {"validation": validation}} if validation else {},
    }


def _metrics(evaluation: Mapping[str, Any]) -> dict[str, float]:
    """Returns the finite metrics for MLflow and KFP. Only the names of the headline protocol have no suffix."""
    metrics: dict[str, Any] = {}
    for protocol, splits in evaluation["protocols"].items():
        suffix = "" if protocol == PROTOCOL else f"_{protocol.replace('-', '_')}"
        for split, score in splits.items():
            metrics |= {f"{split}_{name}{suffix}": score[name] for name in registry.MEASURES}
    for protocol, adapted in evaluation.get("adapted", {}).items():
        suffix = f"_adapted_by_{protocol.partition('+')[2]}"
        for split, score in adapted["splits"].items():
            metrics |= {f"{split}_{name}{suffix}": score[name] for name in registry.MEASURES}
    if bleu := evaluation["bleu"]:
        metrics |= {name: bleu[name] for name in ("bleu", "distinct_1", "distinct_2", "repetition")}
    baselines, verdict = evaluation["baselines"], evaluation["verdict"]
    if evaluation["protocols"][PROTOCOL]["test"]["unit"] == "word":
        metrics["unigram_test_word_perplexity"] = baselines["unigram"]["test"]
    else:
        metrics["unigram_test_bits_per_byte"] = baselines["byte_unigram"]["test"]
    metrics[f"champion_difference_nats_per_{verdict['unit']}"] = verdict["difference"]
    numbers = {name: finite(value) for name, value in metrics.items()}
    return {name: value for name, value in numbers.items() if value is not None}


def _history(model_dir: Path) -> list[dict[str, Any]]:
    path = model_dir / "history.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def _progress_reporter() -> Progress:
    """Emits progress about once a second, and at the end of each text."""
    last = 0.0

    def report(protocol: str, split: str, done: int, total: int) -> None:
        nonlocal last
        if done == total or time.monotonic() - last > 1:
            last = time.monotonic()
            emit("progress", step="evaluate", done=done, total=total, protocol=protocol, split=split)

    return report
