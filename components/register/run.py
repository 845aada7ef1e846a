"""The step that registers the model, whatever the gate says of it, and moves the alias that the gate decides."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.register.card import card
from components.register.lineage import Made, evaluation_tags, lineage_tags
from components.register.logged_model import log_model
from components.register.model_lock import fenced, model_lock, register_once
from components.register.promotion import Judge, Placed, place
from components.register.settings import RegisterSettings
from components.shared.base.events import emit
from components.shared.base.failure import Failure
from components.shared.runtime.step import Step
from components.shared.storage.lock import Held
from components.shared.storage.manifest import read_manifest
from components.shared.tracking import registry
from components.shared.tracking.gate import Rule, Scores, Verdict, gate
from components.shared.tracking.run import settings_for_the_record, translate_mlflow_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


def run(step: Step, reuse_key: str, corpus_dir: Path, model_dir: Path, evaluation_dir: Path, report_path: Path) -> str:
    """Registers the weights once, whatever made them, and places the version among the others.

    Where a version of these weights is registered to its end, that one is the answer and nothing of it changes.
    Repeating the step after it died anywhere ends in the same: one version, READY, with its tags, card and alias.

    Args:
        step: what every step is handed.
        reuse_key: that the model was asked for by.
        corpus_dir, model_dir, evaluation_dir: folders of the steps before.
        report_path: the report of the evaluation, HTML.

    Returns:
        The number of the model version.

    Raises:
        Failure: a folder is damaged, the model has no tokenizer, the evaluation is of other weights, MLflow refuses, or
            another run does not let go of the lock on the registered model.
    """
    settings = step.section(RegisterSettings)
    made = _made(step, reuse_key, corpus_dir, model_dir, evaluation_dir)
    files = {"evaluation.json": evaluation_dir / "evaluation.json", "report.html": report_path}
    client = step.tracking.client
    with translate_mlflow_errors(client):
        known = registry.version_of(client, made.name, made.weights_digest)
        if known and registry.is_complete(known):
            return _leave(step, client, made, known, files)
        _keep(step, client, made, files)
        # It uploads the weights: not under the lock, for which others wait.
        model_id = "" if known else log_model(client, made, model_dir)
        with model_lock(step.store, made.name).held(step.run, patience=settings.patience) as held:
            version = _register(client, held, made, lambda: model_id or log_model(client, made, model_dir))
            if registry.is_complete(known := client.get_model_version(made.name, version)):
                return _leave(step, client, made, known, files)  # another run has registered these weights meanwhile
            _place(step, fenced(client, held.check), made, known)
    return version


def _place(step: Step, client: MlflowClient, made: Made, version: ModelVersion) -> None:
    """Gives a version everything that belongs to it; the tag that says so comes last."""
    number = str(version.version)
    _own(client, made, version)
    placed = place(client, made.name, number, _judge(client, made, step.settings["evaluate"]))
    rival = client.get_model_version(made.name, placed.rival).tags if placed.rival else None
    tags = client.get_model_version(made.name, number).tags
    client.update_model_version(made.name, number, card(made, number, placed, rival, tags))
    _tell(step, made, number, placed)
    client.set_model_version_tag(made.name, number, registry.REGISTERED, step.run)


def _made(step: Step, reuse_key: str, corpus_dir: Path, model_dir: Path, evaluation_dir: Path) -> Made:
    return Made.of(
        reuse_key=reuse_key,
        pipeline_run=step.run,
        run_id=step.tracking.run_id,
        corpus=read_manifest(corpus_dir, "corpus"),
        model=read_manifest(model_dir, "model"),
        evaluation=read_manifest(evaluation_dir, "evaluation"),
        scores=json.loads((evaluation_dir / "evaluation.json").read_text(encoding="utf-8")),
    )


def _keep(step: Step, client: MlflowClient, made: Made, files: dict[str, Path]) -> None:
    registry.keep_evaluation(client, made.run_id, made.weights_digest, files)
    client.log_dict(made.run_id, settings_for_the_record(step.settings), registry.SETTINGS_FILE)


def _leave(step: Step, client: MlflowClient, made: Made, version: ModelVersion, files: dict[str, Path]) -> str:
    """A version of these weights stays as it is; this run says which one it came to, and keeps its own evaluation."""
    if made.run_id not in (version.run_id, version.tags.get(registry.EVALUATION_RUN)):
        _keep(step, client, made, files)
    number = str(version.version)
    reason = f"Version {number} has these very weights: it stays as it is."
    word = version.tags.get(registry.VERDICT, "keep")
    _tell(step, made, number, Placed(word, reason, alias=None, rival=None))
    return number


def _register(client: MlflowClient, held: Held, made: Made, log: Callable[[], str]) -> str:
    import mlflow

    def make() -> str:
        model_id = log()
        tags = lineage_tags(made) | evaluation_tags(made)
        if before := registry.versions_of_request(client, made.name, made.reuse_key):
            tags[registry.REPEATS] = str(before[0].version)
        held.check()
        return str(mlflow.register_model(f"models:/{model_id}", made.name, tags=tags).version)

    return register_once(client, held.check, made.name, made.weights_digest, make)


def _own(client: MlflowClient, made: Made, version: ModelVersion) -> None:
    """A version that a run left unfinished may have been scored by another evaluation; of the same weights in any case.

    Raises:
        Failure: it has other weights.
    """
    tags, number = version.tags, str(version.version)
    if tags.get(registry.WEIGHTS_DIGEST) != made.weights_digest:
        raise Failure(
            f"Version {number} of {made.name} does not have the weights that are to be registered",
            where=client.tracking_uri,
            remedy="run again; if that does not help, delete the version that was left unfinished",
        )
    for name, value in evaluation_tags(made).items():
        if tags.get(name) != value:
            client.set_model_version_tag(made.name, number, name, value)


def _judge(client: MlflowClient, made: Made, settings: dict[str, Any]) -> Judge:
    ours, rule = Scores.from_evaluation(made.scores, made.weights_digest), Rule.from_settings(settings)

    def judge(champion: ModelVersion | None) -> Verdict:
        if champion is None:
            return gate(ours, None, rule)
        weights = champion.tags.get(registry.WEIGHTS_DIGEST, "")
        return gate(ours, Scores.from_evaluation(_scores_of(client, made, champion, weights), weights), rule)

    return judge


def _scores_of(client: MlflowClient, made: Made, champion: ModelVersion, weights: str) -> dict[str, Any] | None:
    """The scores of the champion's weights as this evaluation measured them, or as the same evaluation did before."""
    seen = made.scores.get("champion")
    if seen and weights and seen.get("weights_digest") == weights:
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
