"""The step that registers every trained model, and moves the alias by the verdict of the gate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.register.card import card
from components.register.lineage import TrainedModel, evaluation_tags, lineage_tags
from components.register.logged_model import log_model
from components.register.model_lock import fenced, model_lock, register_once
from components.register.promotion import AliasDecision, GateAgainst, decide_alias
from components.register.settings import RegisterSettings
from components.register.signing import not_compared, signing_key, why_not_verified
from components.register.trend import show_trend
from components.shared.base.events import emit
from components.shared.base.failure import Failure
from components.shared.runtime.champion_report import report_champion
from components.shared.runtime.step import Step
from components.shared.signing.keys import SigningKey
from components.shared.signing.sign import sign_version
from components.shared.storage.lock import Held
from components.shared.storage.manifest import read_manifest
from components.shared.tracking import registry
from components.shared.tracking.gate import Rule, Scores, Verdict, gate
from components.shared.tracking.run import translate_mlflow_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def run(step: Step, reuse_key: str, corpus_dir: Path, model_dir: Path, evaluation_dir: Path, report_path: Path) -> str:
    """Registers the weights once, even if several runs trained them, and decides the alias of the version.

    If a complete version of these weights exists, the step returns it and does not change it. If the step was killed at
    any point, repeating it gives the same result: one READY version with its tags, card and alias.

    Args:
        step: the context of the step.
        reuse_key: the model key.
        corpus_dir, model_dir, evaluation_dir: the folders of the earlier steps.
        report_path: the report of the evaluation, HTML.

    Returns:
        The number of the model version.

    Raises:
        Failure: a folder is damaged, the model has no tokenizer, the evaluation scored other weights, the signing key
            cannot be used, MLflow refuses, or another run does not release the lock on the registered model.
    """
    settings = step.section(RegisterSettings)
    key = signing_key(settings)
    trained = _trained_model(step, reuse_key, corpus_dir, model_dir, evaluation_dir)
    files = {registry.EVALUATION: evaluation_dir / registry.EVALUATION, "report.html": report_path}
    if (kept := evaluation_dir / registry.LOG_PROBABILITIES).is_file():  # an earlier release evaluated without it
        files[registry.LOG_PROBABILITIES] = kept
    client = step.tracking.client
    with translate_mlflow_errors(client):
        known = registry.version_of(client, trained.name, trained.weights_digest)
        if known and registry.is_complete(known):
            version = _reuse_version(step, client, trained, known, files)
        else:
            registry.log_evaluation(client, trained.run_id, trained.weights_digest, files)
            # The upload of the weights is slow, so it is done without the lock, for which others wait.
            model_id = "" if known else log_model(client, trained, model_dir)
            with model_lock(step.store, trained.name).held(step.run, patience=settings.patience) as held:
                version = _register(client, held, trained, lambda: model_id or log_model(client, trained, model_dir))
                if registry.is_complete(known := client.get_model_version(trained.name, version)):
                    # Another run has registered these weights meanwhile.
                    _reuse_version(step, client, trained, known, files)
                else:
                    _complete_version(step, fenced(client, held.check), trained, known, key)
        show_trend(client, trained.name, trained.run_id)
        report_champion(step, trained.name)
    return version


def _complete_version(
    step: Step, client: MlflowClient, trained: TrainedModel, version: ModelVersion, key: SigningKey | None
) -> None:
    """Adds tags, card, signature and alias to a version. The tag that marks it as complete comes last."""
    number = str(version.version)
    signer = key.public.fingerprint if key else None

    def write_card(decision: AliasDecision) -> None:
        rival = client.get_model_version(trained.name, decision.rival).tags if decision.rival else None
        tags = client.get_model_version(trained.name, number).tags
        client.update_model_version(trained.name, number, card(trained, number, decision, rival, tags, signer))
        if key:
            sign_version(client, client.get_model_version(trained.name, number), key)

    _update_evaluation_tags(client, trained, version)
    gate_against = _gate_against(client, trained)
    decision = decide_alias(client, trained.name, number, gate_against, step.promoters, prepare=write_card)
    _report_version(step, trained, number, decision)
    client.set_model_version_tag(trained.name, number, registry.REGISTERED, step.run)


def _trained_model(step: Step, reuse_key: str, corpus_dir: Path, model_dir: Path, evaluation_dir: Path) -> TrainedModel:
    return TrainedModel.of(
        reuse_key=reuse_key,
        pipeline_run=step.run,
        run_id=step.tracking.run_id,
        corpus=read_manifest(corpus_dir, "corpus"),
        model=read_manifest(model_dir, "model"),
        evaluation=read_manifest(evaluation_dir, "evaluation"),
        scores=json.loads((evaluation_dir / registry.EVALUATION).read_text(encoding="utf-8")),
    )


def _reuse_version(
    step: Step, client: MlflowClient, trained: TrainedModel, version: ModelVersion, files: dict[str, Path]
) -> str:
    """Leaves a complete version of these weights unchanged, and logs the evaluation of this run.

    A version that an earlier release evaluated gets the log-probabilities that its evaluation does not have. One that
    was registered without a signature does not get one: only a person can say that it was not changed since.
    """
    if trained.run_id not in (version.run_id, version.tags.get(registry.EVALUATION_RUN)):
        registry.log_evaluation(client, trained.run_id, trained.weights_digest, files)
    if kept := files.get(registry.LOG_PROBABILITIES):
        registry.add_log_probabilities(client, version, kept)
    number = str(version.version)
    if step.section(RegisterSettings).signing == "required" and registry.SIGNATURE not in version.tags:
        emit("note", text=f"Version {number} was registered without a signature: sign it by `wikigpt sign {number}`")
    reason = f"Version {number} already has these weights and is not changed."
    word = version.tags.get(registry.VERDICT, "keep")
    _report_version(step, trained, number, AliasDecision(word, reason, alias=None, rival=None))
    return number


def _register(client: MlflowClient, held: Held, trained: TrainedModel, log: Callable[[], str]) -> str:
    import mlflow

    def make() -> str:
        model_id = log()
        tags = lineage_tags(trained) | evaluation_tags(trained)
        if before := registry.versions_of_key(client, trained.name, trained.reuse_key):
            tags[registry.REPEATS] = str(before[0].version)
        held.check()
        return str(mlflow.register_model(f"models:/{model_id}", trained.name, tags=tags).version)

    return register_once(client, held.check, trained.name, trained.weights_digest, make)


def _update_evaluation_tags(client: MlflowClient, trained: TrainedModel, version: ModelVersion) -> None:
    """Updates the scores of an unfinished version, which another evaluation of the same weights may have written.

    Raises:
        Failure: the version has other weights.
    """
    tags, number = version.tags, str(version.version)
    if tags.get(registry.WEIGHTS_DIGEST) != trained.weights_digest:
        raise Failure(
            f"Version {number} of {trained.name} does not have the weights that are to be registered",
            where=client.tracking_uri,
            remedy="run again; if that does not help, delete the unfinished version",
        )
    for name, value in evaluation_tags(trained).items():
        if tags.get(name) != value:
            client.set_model_version_tag(trained.name, number, name, value)


def _gate_against(client: MlflowClient, trained: TrainedModel) -> GateAgainst:
    ours = Scores.from_evaluation(trained.scores, trained.weights_digest)
    rule = Rule.from_settings(trained.scores["rule"])

    def gate_against(champion: ModelVersion | None) -> Verdict:
        if champion is None:
            return gate(ours, None, rule)
        weights = champion.tags.get(registry.WEIGHTS_DIGEST, "")
        if unverified := why_not_verified(client, champion):
            return not_compared(gate(ours, Scores.from_evaluation(None, weights), rule), unverified)
        return gate(ours, Scores.from_evaluation(_scores_of(client, trained, champion, weights), weights), rule)

    return gate_against


def _scores_of(
    client: MlflowClient, trained: TrainedModel, champion: ModelVersion, weights: str
) -> dict[str, Any] | None:
    """Returns the champion's scores from this evaluation, or from an earlier one with the same key."""
    seen = trained.scores.get("champion")
    if seen and weights and seen.get("weights_digest") == weights:
        return seen
    if champion.tags.get(registry.EVALUATION_KEY) == trained.evaluation["evaluation_key"]:
        return registry.evaluation_of(client, champion)
    return None


def _report_version(step: Step, trained: TrainedModel, version: str, decision: AliasDecision) -> None:
    step.tracking.tags(
        {
            registry.MODEL_VERSION: f"{trained.name}/{version}",
            registry.VERDICT: decision.verdict,
            registry.REASON: decision.reason,
        }
    )
    step.findings.update(model=trained.name, version=version, verdict=decision.verdict)
    emit(
        "registered",
        model=trained.name,
        version=version,
        alias=decision.alias,
        verdict=decision.verdict,
        reason=decision.reason,
    )
