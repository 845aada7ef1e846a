"""The step: fetch and check the corpus, then decide by the ladder whether there is anything to train."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.download.corpus import Owner
from components.download.fetch import fetch_corpus
from components.download.naming import belongs_to_another
from components.download.settings import DownloadSettings
from components.shared.base.events import emit
from components.shared.reuse.decide import Decision, decide
from components.shared.reuse.external_inputs import ingredients
from components.shared.reuse.keys import Request, request_of
from components.shared.reuse.prior_artifacts import Standing, look_up
from components.shared.reuse.training_lock import training_lock
from components.shared.runtime.kill_orphaned_runs import kill_orphaned_runs
from components.shared.runtime.step import Step
from components.shared.storage.manifest import Manifest
from components.shared.tracking import registry
from components.shared.tracking.run import settings_for_the_record, translate_mlflow_errors


@dataclass(frozen=True)
class Outcome:
    """What the steps after this one are told.

    Attributes:
        decision: "train" or "skip".
        tokens_key: the reuse key of the tokens that these settings and this corpus ask for.
        reuse_key: that of the model.
    """

    decision: str
    tokens_key: str
    reuse_key: str


def run(step: Step, corpus_dir: Path) -> Outcome:
    """Writes the corpus to a folder and says what the run does.

    Raises:
        Failure: the corpus is not to be had or not what it should be; another run trains the same.
    """
    settings = step.section(DownloadSettings)
    corpus = fetch_corpus(settings, corpus_dir, step.store, _owner(step, settings))
    request = request_of(corpus.metadata["dataset_digest"], step.settings, ingredients(step.settings))
    key = request.reuse_key
    with translate_mlflow_errors(step.tracking.client):
        _end_dead_runs(step)
        standing = look_up(step.store, step.tracking.client, corpus.metadata["model_name"], key)
        decision = decide(
            force=settings.force, version=standing.version, model=standing.model, checkpoint=standing.checkpoint
        )
        _record(step, settings, corpus, request, decision, standing)
    step.published.update(decision=decision.word, reason=decision.reason, model=corpus.metadata["model_name"])
    step.published.update(version=standing.version if decision.word == "skip" else None)
    if decision.word == "train":
        training_lock(step.store, key).refuse(step.run)
    emit(
        "decision",
        word=decision.word,
        rung=decision.rung,
        reason=decision.reason,
        reuse_key=key,
        corpus=corpus.metadata["name"],
        model_name=corpus.metadata["model_name"],
        version=standing.version,
    )
    return Outcome(decision.word, request.tokens_key, key)


def _owner(step: Step, settings: DownloadSettings) -> Owner:
    def ask(model_name: str, dataset_digest: str) -> str | None:
        client = step.tracking.client
        with translate_mlflow_errors(client):
            return belongs_to_another(client, model_name, settings.corpus, dataset_digest)

    return ask


def _end_dead_runs(step: Step) -> None:
    client = step.tracking.client
    experiment = client.get_run(step.tracking.run_id).info.experiment_id
    if killed := kill_orphaned_runs(client, step.store, experiment, by=step.run):
        emit("note", text=f"MLflow runs that a killed process left RUNNING were marked KILLED: {', '.join(killed)}")


def _record(
    step: Step,
    settings: DownloadSettings,
    corpus: Manifest,
    request: Request,
    decision: Decision,
    standing: Standing,
) -> None:
    # Our own section with its secrets filled in, to be redacted: a reference would say nothing of the address.
    step.tracking.params(_described({**step.settings, "download": asdict(settings)}))
    tags = {
        registry.DECISION: decision.word,
        registry.DECISION_REASON: decision.reason,
        registry.REUSE_KEY: request.reuse_key,
        registry.TOKENS_KEY: request.tokens_key,
        registry.DATASET_DIGEST: corpus.metadata["dataset_digest"],
        registry.CORPUS: corpus.metadata["name"],
        registry.CORPUS_SOURCE: corpus.metadata["source"],
    }
    if decision.word == "skip":
        tags[registry.MODEL_VERSION] = f"{corpus.metadata['model_name']}/{standing.version}"
    step.tracking.tags(tags)


def _described(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings as parameters of the MLflow run."""
    sections = {name: values for name, values in settings_for_the_record(settings).items() if isinstance(values, dict)}
    return {f"{name}.{key}": value for name, values in sections.items() for key, value in values.items()}
