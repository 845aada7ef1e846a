"""Queries to the registry that several steps and commands share, and the names of the tags.

The registry is the source of truth about versions. A version has its metrics and its lineage as tags, because the REST
API of MLflow returns no metrics of a version; its evaluation is an artifact of its run.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.tracking.mlflow_filter import all_of, equals
from components.shared.tracking.sqlite_registry import SqliteRegistry, sqlite_registry

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import FileInfo
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

    from components.shared.tracking.sqlite_registry import AnyVersion, LocalModel, RegistryReader

CHAMPION = "champion"
CHALLENGER = "challenger"

# Tags of runs and of versions. The decision and the result of a run:
DECISION = "wikigpt.decision"
DECISION_REASON = "wikigpt.decision_reason"
MODEL_VERSION = "wikigpt.model_version"
CHECKPOINT = "wikigpt.checkpoint"
# The verdict of the gate, on the version and on its run:
VERDICT = "wikigpt.verdict"
REASON = "wikigpt.reason"
# The lineage of a version, and its later state:
REUSE_KEY = "wikigpt.reuse_key"  # the model key
TOKENS_KEY = "wikigpt.tokens_key"
FINGERPRINT = "wikigpt.fingerprint"  # the tag that versions of schema 1 have instead of a model key
DATASET_DIGEST = "wikigpt.dataset_digest"
TOKENIZER_DIGEST = "wikigpt.tokenizer_digest"
WEIGHTS_DIGEST = "wikigpt.weights_digest"  # the identity of a version, to which its metrics belong
NUMERICS = "wikigpt.numerics"
REPEATS = "wikigpt.repeats"  # the version that has the same model key and other weights
CORPUS = "wikigpt.corpus"
LICENCE = "wikigpt.licence"  # of the text, which the card of an exported model states
BASE_MODEL = "wikigpt.base_model"  # the model on the Hub that was fine-tuned
TOKENS_SEEN = "wikigpt.tokens_seen"
CORPUS_SOURCE = "wikigpt.corpus_source"  # its address, without credentials
WARM_START_FROM = "wikigpt.warm_start_from"  # the version from which its training started, NAME/VERSION
WARM_START_DIGEST = "wikigpt.warm_start_digest"  # the digest of the weights of that version
DISTILLED_FROM = "wikigpt.distilled_from"  # the versions that taught it, NAME/VERSION, separated by commas
DISTILLED_DIGESTS = "wikigpt.distilled_digests"  # the digests of their weights, in the same order
COMMIT = "wikigpt.commit"
IMAGE = "wikigpt.image"
GPU_SECONDS, TRAIN_SECONDS = "wikigpt.gpu_seconds", "wikigpt.train_seconds"
COSTS = ("wikigpt.gpu_seconds", "wikigpt.train_seconds", "wikigpt.parameters")
EVALUATION_KEY = "wikigpt.evaluation_key"
REGISTERED = "wikigpt.registered"  # set last, when a version is complete
GATE_INTERVAL = "wikigpt.gate_interval"  # difference to the champion in nats per unit, and both ends of its interval
EVALUATION_RUN = "wikigpt.evaluation_run"
CHAMPION_BEFORE = "wikigpt.champion_before"
ROLLED_BACK = "wikigpt.rolled_back"
ROLLOUT_FAILED = "wikigpt.rollout_failed"  # why the version was taken back when it was rolled out
ROLLOUT_RETURNED = "wikigpt.rollout_returned"  # set once the alias has left the version that failed
SIGNATURE = "wikigpt.signature"  # the digest of its signature files, which is also the name of their folder
SIGNED_BY = "wikigpt.signed_by"  # the fingerprint of the key
# On a registered model: the last champion that this project set or saw. If the alias is on another version, a person
# moved it in the UI, and this is the previous champion.
LAST_CHAMPION = "wikigpt.last_champion"
SCHEMA = "wikigpt.schema"
SCHEMA_VERSION = "2"  # schema 1 had a fingerprint as identity and one evaluation for each run

MEASURES = ("word_perplexity", "token_perplexity", "bits_per_byte")  # the main metrics of an evaluation

SETTINGS_FILE = "settings.json"
# The files of an evaluation, in its folder in the store and among the artifacts of its run.
EVALUATION = "evaluation.json"
LOG_PROBABILITIES = "log_probabilities.safetensors"
COMPLETIONS = "completions.json"  # among the files of the model, see components/register/completions.py
# Metrics that the train step records at its end.
VALIDATION_WORD_PERPLEXITY = "validation_word_perplexity"
TRAINING_METRICS = ("train_seconds", "tokens_seen", "parameters")
_EVALUATION_FOLDER = "evaluation"
_ABSENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}


def score_tag(split: str, measure: str) -> str:
    """The tag of a metric of the evaluation by the protocol of the gate."""
    return f"wikigpt.{split}.{measure}"


def adapted_tag(protocol: str, split: str, measure: str) -> str:
    """The tag of a metric of a model that adapted to the text while it was scored."""
    return f"wikigpt.adapted_while_scored.{protocol.partition('+')[2]}.{split}.{measure}"


def is_score_tag(tag: str) -> bool:
    """Whether a tag is one of `score_tag` or `adapted_tag`."""
    return tag.startswith(("wikigpt.validation.", "wikigpt.test.", "wikigpt.adapted_while_scored."))


def param_text(value: Any) -> str:
    """A value as a parameter of a logged model, which MLflow limits to 500 characters."""
    return str(value)[:500]


@contextmanager
def read_registry(uri: str) -> Iterator[RegistryReader]:
    """The registry at an address, to read it only. A database on this machine is read without MLflow.

    Raises:
        Failure: the registry cannot be reached, or reports an error within the block.
    """
    if local := sqlite_registry(uri):
        yield local
        return
    from components.shared.tracking.run import connect, translate_mlflow_errors

    client = connect(uri)
    with translate_mlflow_errors(client):
        yield client


def registered_models(registry: RegistryReader) -> Sequence[RegisteredModel | LocalModel]:
    """All registered models, with their aliases."""
    if isinstance(registry, SqliteRegistry):
        return registry.models()
    return registry.search_registered_models(max_results=1000)


def registered_model(registry: RegistryReader, name: str) -> RegisteredModel | LocalModel | None:
    """A registered model with its aliases and tags, or None if it does not exist."""
    if isinstance(registry, SqliteRegistry):
        return next((model for model in registry.models() if model.name == name), None)
    from mlflow.exceptions import MlflowException

    try:
        return registry.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def all_versions(registry: RegistryReader, model: str) -> Sequence[AnyVersion]:
    """The versions of a registered model, newest first; empty if the model does not exist."""
    return registry.versions(model) if isinstance(registry, SqliteRegistry) else versions(registry, model)


def versions(client: MlflowClient, model: str, *, where: str = "") -> list[ModelVersion]:
    """The versions of a registered model, newest first; empty if the model does not exist.

    Args:
        client: the MLflow client.
        model: the name of the registered model.
        where: a further condition in MLflow's filter language.
    """
    condition = all_of(equals("name", model), where)
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(condition, max_results=200, page_token=token)
        found += [version for version in page if version.name == model]
        if not (token := page.token):
            return sorted(found, key=lambda version: -int(version.version))


def version_of(client: MlflowClient, model: str, weights_digest: str) -> ModelVersion | None:
    """The version with these weights: the first complete one, else the first."""
    return next(iter(versions_of(client, model, weights_digest)), None)


def has_version(client: MlflowClient, model: str, number: str) -> bool:
    """Whether a registered model has a version of this number."""
    return any(str(version.version) == number for version in versions(client, model))


def versions_of(client: MlflowClient, model: str, weights_digest: str) -> list[ModelVersion]:
    """All versions with these weights, complete ones first. There are several only if a run lost its lock."""
    found = versions(client, model, where=f"tags.`{WEIGHTS_DIGEST}`='{weights_digest}'")[::-1]
    return sorted(found, key=lambda version: not is_complete(version))


def versions_of_key(client: MlflowClient, model: str, model_key: str) -> list[ModelVersion]:
    """The versions with a model key, oldest first."""
    return versions(client, model, where=f"tags.`{REUSE_KEY}`='{model_key}'")[::-1]


def is_complete(version: AnyVersion) -> bool:
    """Whether the registration of a version was completed, including its card and alias."""
    return REGISTERED in version.tags


def model_key_of(version: AnyVersion) -> str:
    """The model key of a version, or its fingerprint; "" for a version of another project."""
    return version.tags.get(REUSE_KEY) or version.tags.get(FINGERPRINT, "")


def version_with_alias(client: MlflowClient, model: str, alias: str) -> ModelVersion | None:
    """The version that has an alias, or None.

    MLflow's basic auth answers 403 to a user who is not an administrator if the model does not exist, although that
    user may create it. A 403 is therefore a refusal only if the model exists.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(model, alias)
    except MlflowException as error:
        if error.error_code in _ABSENT or (error.get_http_status_code() == 403 and not _exists(client, model)):
            return None
        raise


def _exists(client: MlflowClient, model: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(model)
    except MlflowException as error:
        return error.error_code != "RESOURCE_DOES_NOT_EXIST"
    return True


def evaluation_of(client: MlflowClient, version: ModelVersion) -> dict[str, Any] | None:
    """The evaluation that the gate used for a version, or None if it was deleted."""
    run, weights = artifacts_run(version), version.tags.get(WEIGHTS_DIGEST, "")
    # In schema 1 all models of a run share one folder, so a caller must check the weights digest in the evaluation.
    return _read_evaluation(client, run, evaluation_folder(weights)) or _read_evaluation(
        client, run, _EVALUATION_FOLDER
    )


def log_evaluation(client: MlflowClient, run: str, weights_digest: str, files: dict[str, Path]) -> None:
    """Logs the files of an evaluation, by their names as artifacts, to the folder from which `evaluation_of` reads."""
    with tempfile.TemporaryDirectory() as folder:
        for name, path in files.items():
            shutil.copyfile(path, Path(folder) / name)
        client.log_artifacts(run, folder, evaluation_folder(weights_digest))


def log_probabilities_of(registry: RegistryReader, version: AnyVersion, folder: Path) -> Path | None:
    """The file of the log-probabilities of a version, or None if its evaluation did not keep them.

    Args:
        registry: a client of the registry, or the database.
        version: the version.
        folder: a folder for the download, which is not needed if the artifacts are on this machine.
    """
    name = f"{evaluation_folder(version.tags.get(WEIGHTS_DIGEST, ''))}/{LOG_PROBABILITIES}"
    return artifacts_of(registry, version, name, folder)


def artifacts_of(registry: RegistryReader, version: AnyVersion, name: str, folder: Path) -> Path | None:
    """A file or folder among the artifacts of the run that keeps the evaluation of a version, or None.

    Args:
        registry: a client of the registry, or the database.
        version: the version.
        name: the path of the artifact in the run.
        folder: a folder for the download, which is not needed if the artifacts are on this machine.
    """
    run = artifacts_run(version)
    if isinstance(registry, SqliteRegistry):
        if here := registry.artifacts(run):
            return here / name if (here / name).exists() else None
        from components.shared.tracking.run import connect

        registry = connect(registry.tracking_uri)
    return _download(registry, run, name, folder)


def require_answer(registry: RegistryReader, version: AnyVersion) -> None:
    """Raises MLflow's error if it cannot say which artifacts the run of a version has, and they only seem missing."""
    from mlflow.exceptions import MlflowException

    if isinstance(registry, SqliteRegistry):
        return
    try:
        registry.list_artifacts(artifacts_run(version))
    except MlflowException as error:
        if error.error_code not in _ABSENT:
            raise


def artifacts_run(version: AnyVersion) -> str:
    """The id of the MLflow run that keeps the evaluation and the signature of a version."""
    return version.tags.get(EVALUATION_RUN) or version.run_id or ""


def add_log_probabilities(client: MlflowClient, version: ModelVersion, path: Path) -> None:
    """Adds the file of the log-probabilities to the evaluation of a version, if it has none and still exists.

    The evaluation of a signed version is left as it was signed.
    """
    if SIGNATURE in version.tags:
        return
    run, weights = artifacts_run(version), version.tags.get(WEIGHTS_DIGEST, "")
    names = {Path(file.path).name for file in _artifacts(client, run, evaluation_folder(weights))}
    if EVALUATION in names and LOG_PROBABILITIES not in names:
        client.log_artifact(run, str(path), evaluation_folder(weights))


def evaluation_folder(weights_digest: str) -> str:
    """The artifact folder of an evaluation; it is named by the weights because a retried run may train two models."""
    return f"{_EVALUATION_FOLDER}/{weights_digest}"


def _read_evaluation(client: MlflowClient, run: str, folder: str) -> dict[str, Any] | None:
    with tempfile.TemporaryDirectory() as scratch:
        path = _download(client, run, f"{folder}/{EVALUATION}", Path(scratch))
        return json.loads(path.read_text(encoding="utf-8")) if path else None


def _artifacts(client: MlflowClient, run: str, folder: str) -> Sequence[FileInfo]:
    from mlflow.exceptions import MlflowException

    try:
        return client.list_artifacts(run, folder)
    except (MlflowException, OSError):
        return ()


def _download(client: MlflowClient, run: str, name: str, folder: Path) -> Path | None:
    from mlflow.exceptions import MlflowException

    try:
        return Path(client.download_artifacts(run, name, str(folder)))
    except (MlflowException, OSError):
        return None
