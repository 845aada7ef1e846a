"""The step that registers the model, whatever the gate says of it, and moves the alias that the gate decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.register.card import card
from components.register.claim import claim_version, settle_claim
from components.register.lineage import Made, evaluation_tags, lineage_tags
from components.register.logged_model import log_model
from components.register.promotion import Judge, Placed, place
from components.register.settings import RegisterSettings
from components.shared import registry
from components.shared.events import emit
from components.shared.failure import Failure
from components.shared.gate import Rule, Scores, Verdict, gate
from components.shared.step import Step
from components.shared.storage.manifest import read_manifest
from components.shared.tracking import plainly, settings_for_the_record

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def run(
    step: Step, fingerprint: str, corpus_dir: Path, model_dir: Path, evaluation_dir: Path, report_path: Path
) -> str:
    """Logs the model onto the MLflow run, registers it once per fingerprint and places it among the versions.

    Repeating it after it died anywhere ends in the same: one version, READY, with its tags, card and alias.

    Args:
        step: what every step is handed.
        fingerprint: of the training.
        corpus_dir, model_dir, evaluation_dir: folders of the steps before.
        report_path: the report of the evaluation, HTML.

    Returns:
        The number of the model version.

    Raises:
        Failure: a folder is damaged, the model has no tokenizer, MLflow refuses, or another run holds the claim.
    """
    settings = step.section(RegisterSettings)
    made = _made(step, fingerprint, corpus_dir, model_dir, evaluation_dir)
    client = step.tracking.client
    with plainly(client):
        files = {"evaluation.json": evaluation_dir / "evaluation.json", "report.html": report_path}
        registry.keep_evaluation(client, made.run_id, files)
        client.log_dict(made.run_id, settings_for_the_record(step.settings), registry.SETTINGS_FILE)
        version = _register(step, client, made, model_dir, settings.patience)
        _update_tags(client, made, version)
        placed = place(client, made.name, version, _judge(client, made, step.settings["evaluate"]))
        rival = client.get_model_version(made.name, placed.rival).tags if placed.rival else None
        client.update_model_version(made.name, version, card(made, version, placed, rival))
        _tell(step, made, version, placed)
        client.set_model_version_tag(made.name, version, registry.REGISTERED, step.run)
    return version


def _made(step: Step, fingerprint: str, corpus_dir: Path, model_dir: Path, evaluation_dir: Path) -> Made:
    corpus, model = read_manifest(corpus_dir, "corpus"), read_manifest(model_dir, "model")
    evaluation = read_manifest(evaluation_dir, "evaluation")
    if model.facts["fingerprint"] != fingerprint:
        raise Failure(
            f"The model is of fingerprint {model.facts['fingerprint']}, this run is of {fingerprint}",
            where=str(model_dir),
            remedy="run again; a model is registered under the fingerprint that made it",
        )
    return Made.of(
        fingerprint=fingerprint,
        pipeline_run=step.run,
        run_id=step.tracking.run_id,
        corpus=corpus,
        model=model,
        evaluation=evaluation,
        scores=json.loads((evaluation_dir / "evaluation.json").read_text()),
    )


def _register(step: Step, client: MlflowClient, made: Made, folder: Path, patience: float) -> str:
    claim = claim_version(step.store, client, made.name, made.fingerprint, step.run, patience=patience)
    version = claim.version
    if version is None:
        import mlflow

        model_id = log_model(client, made, folder)
        tags = lineage_tags(made) | evaluation_tags(made)
        version = str(mlflow.register_model(f"models:/{model_id}", made.name, tags=tags).version)
    settle_claim(step.store, claim, step.run, version)
    return version


def _update_tags(client: MlflowClient, made: Made, version: str) -> None:
    """A version that stood already may have been scored by another evaluation since."""
    before = client.get_model_version(made.name, version).tags
    for name, value in evaluation_tags(made).items():
        if before.get(name) != value:
            client.set_model_version_tag(made.name, version, name, value)


def _judge(client: MlflowClient, made: Made, settings: dict[str, Any]) -> Judge:
    ours, rule = Scores.from_evaluation(made.scores), Rule.from_settings(settings)

    def judge(champion: ModelVersion | None) -> Verdict:
        theirs = Scores.from_evaluation(_scores_of(client, made, champion)) if champion else None
        return gate(ours, theirs, rule)

    return judge


def _scores_of(client: MlflowClient, made: Made, champion: ModelVersion) -> dict[str, Any] | None:
    """The champion's scores as this evaluation measured them, or as kept, if the same evaluation made them."""
    seen = made.scores.get("champion")
    if seen and seen["version"] == str(champion.version):
        return seen
    if champion.tags.get(registry.EVALUATION_KEY) == made.evaluation["evaluation_key"]:
        return registry.evaluation_of(client, champion)
    return None


def _tell(step: Step, made: Made, version: str, placed: Placed) -> None:
    step.tracking.tags(
        {
            registry.MODEL_VERSION: f"{made.name}/{version}",
            registry.VERDICT: placed.word,
            registry.REASON: placed.reason,
        }
    )
    step.published.update(model=made.name, version=version, verdict=placed.word)
    emit(
        "registered",
        model=made.name,
        version=version,
        alias=placed.alias,
        verdict=placed.word,
        reason=placed.reason,
    )
