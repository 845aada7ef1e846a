"""The step: fetch and check the corpus, then decide whether the run trains or reuses what exists."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from components.download.corpus import NameOwner
from components.download.fetch import fetch_corpus
from components.download.naming import other_source_of_name
from components.download.settings import DownloadSettings
from components.download.versions import continued_version, pin_versions
from components.shared.base.events import emit
from components.shared.reuse.decide import Decision, decide
from components.shared.reuse.external_inputs import external_input_digests
from components.shared.reuse.keys import Request, request_of
from components.shared.reuse.prior_artifacts import PriorArtifacts, find_prior_artifacts
from components.shared.reuse.training_lock import training_lock
from components.shared.runtime.champion_report import report_champion
from components.shared.runtime.kill_orphaned_runs import kill_orphaned_runs
from components.shared.runtime.step import Step
from components.shared.signing.reference import check_signing_key
from components.shared.storage.manifest import Manifest
from components.shared.tracking import registry
from components.shared.tracking.datasets import dataset_inputs
from components.shared.tracking.run import loggable_settings, translate_mlflow_errors


@dataclass(frozen=True)
class DownloadOutput:
    """The output parameters of the step.

    Attributes:
        run_id: the id of the run.
        settings: the settings of the run as JSON.
        decision: "train" or "skip".
        tokens_key: the reuse key of the tokens.
        reuse_key: the model key.
        reuse_level: the most useful artifact that exists for the model key, or "forced" if all are ignored.
    """

    run_id: str
    settings: str
    decision: str
    tokens_key: str
    reuse_key: str
    reuse_level: str

    def write(self, run_id: Path, settings: Path, tokens_key: Path, reuse_key: Path, reuse_level: Path) -> str:
        """Writes the files of the KFP parameters, and returns the decision, which is the return value of the step."""
        run_id.write_text(self.run_id, encoding="utf-8")
        settings.write_text(self.settings, encoding="utf-8")
        tokens_key.write_text(self.tokens_key, encoding="utf-8")
        reuse_key.write_text(self.reuse_key, encoding="utf-8")
        reuse_level.write_text(self.reuse_level, encoding="utf-8")
        return self.decision


def run(step: Step, corpus_dir: Path) -> DownloadOutput:
    """Writes the corpus to a folder and decides what the run does.

    In the settings of the step, which are those of the run, it pins the registered versions that they name.

    Raises:
        Failure: the corpus cannot be fetched or is not the expected one; a registered version does not exist; another
            run trains the model of this key; the run must sign its version and cannot.
    """
    settings = step.section(DownloadSettings)
    register = step.settings.get("register", {})
    check_signing_key(register.get("signing", "optional"), register.get("signing_key"))
    asked = step.settings["train"].get("pretrained") or ""
    pin_versions(step)
    corpus = fetch_corpus(settings, corpus_dir, step.store, _name_owner_in_registry(step, settings))
    request = request_of(corpus.metadata["dataset_digest"], step.settings, external_input_digests(step.settings))
    key = request.model_key
    with translate_mlflow_errors(step.tracking.client):
        _end_dead_runs(step)
        prior = find_prior_artifacts(step.store, step.tracking.client, corpus.metadata["model_name"], key)
        pinned = step.settings["train"].get("pretrained") or ""
        continued = continued_version(step.tracking.client, asked, pinned, request.key_parts)
        decision = decide(
            force=settings.force,
            version=prior.version,
            model=prior.model,
            checkpoint=prior.checkpoint,
            continued=continued,
        )
        prior = replace(prior, version=prior.version or continued)
        _record(step, settings, corpus, request, decision, prior)
        report_champion(step, corpus.metadata["model_name"])
    step.findings.update(decision=decision.action, reason=decision.reason, model=corpus.metadata["model_name"])
    step.findings.update(version=prior.version if decision.action == "skip" else None)
    if decision.action == "train":
        training_lock(step.store, key).refuse(step.run)
    emit(
        "decision",
        action=decision.action,
        level=decision.level,
        reason=decision.reason,
        reuse_key=key,
        corpus=corpus.metadata["name"],
        model_name=corpus.metadata["model_name"],
        version=prior.version,
    )
    settings_text = json.dumps(step.settings, sort_keys=True)
    return DownloadOutput(step.run, settings_text, decision.action, request.tokens_key, key, decision.level)


def _name_owner_in_registry(step: Step, settings: DownloadSettings) -> NameOwner:
    def ask(model_name: str, dataset_digest: str) -> str | None:
        client = step.tracking.client
        with translate_mlflow_errors(client):
            return other_source_of_name(client, model_name, settings.corpus, dataset_digest)

    return ask


def _end_dead_runs(step: Step) -> None:
    client = step.tracking.client
    experiment = client.get_run(step.tracking.run_id).info.experiment_id
    if killed := kill_orphaned_runs(client, step.store, experiment, by=step.run):
        emit("note", text=f"MLflow runs that killed processes left RUNNING were marked KILLED: {', '.join(killed)}")


def _record(
    step: Step,
    settings: DownloadSettings,
    corpus: Manifest,
    request: Request,
    decision: Decision,
    prior: PriorArtifacts,
) -> None:
    client, run_id = step.tracking.client, step.tracking.run_id
    client.log_inputs(run_id, dataset_inputs(corpus.metadata))
    client.log_dict(run_id, loggable_settings(step.settings), registry.SETTINGS_FILE)
    # The section has its secrets resolved, so that the redacted address is recorded and not a reference to a secret.
    step.tracking.params(_described({**step.settings, "download": asdict(settings)}))
    tags = {
        registry.DECISION: decision.action,
        registry.DECISION_REASON: decision.reason,
        registry.REUSE_KEY: request.model_key,
        registry.TOKENS_KEY: request.tokens_key,
        registry.DATASET_DIGEST: corpus.metadata["dataset_digest"],
        registry.CORPUS: corpus.metadata["name"],
        registry.CORPUS_SOURCE: corpus.metadata["source"],
    }
    if decision.action == "skip":
        tags[registry.MODEL_VERSION] = f"{corpus.metadata['model_name']}/{prior.version}"
    step.tracking.tags(tags)


def _described(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings as parameters of the MLflow run."""
    sections = {name: values for name, values in loggable_settings(settings).items() if isinstance(values, dict)}
    return {f"{name}.{key}": value for name, values in sections.items() for key, value in values.items()}
