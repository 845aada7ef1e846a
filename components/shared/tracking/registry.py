"""What the registry is asked by several steps and by the command, and the names of the tags that answer.

The registry is the truth about versions. A version carries its numbers and its lineage as tags, since MLflow's REST
answers leave the metrics of a version empty; its evaluation is an artifact of its run.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.tracking.mlflow_filter import both, named

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
CHALLENGER = "challenger"

# Tags of runs and of versions. What a run decided and came to:
DECISION = "wikigpt.decision"
DECISION_REASON = "wikigpt.decision_reason"
MODEL_VERSION = "wikigpt.model_version"
CHECKPOINT = "wikigpt.checkpoint"
# What the gate said of a version, on the version and on its run:
VERDICT = "wikigpt.verdict"
REASON = "wikigpt.reason"
# What a version was made of, and what became of it:
REUSE_KEY = "wikigpt.reuse_key"
TOKENS_KEY = "wikigpt.tokens_key"
FINGERPRINT = "wikigpt.fingerprint"  # what versions of schema 1 have in place of a reuse key
DATASET_DIGEST = "wikigpt.dataset_digest"
TOKENIZER_DIGEST = "wikigpt.tokenizer_digest"
WEIGHTS_DIGEST = "wikigpt.weights_digest"  # the identity of a version: its numbers are those of these weights
NUMERICS = "wikigpt.numerics"
REPEATS = "wikigpt.repeats"  # the version that has the same reuse key and other weights
CORPUS = "wikigpt.corpus"
CORPUS_SOURCE = "wikigpt.corpus_source"  # its address, without credentials
COMMIT = "wikigpt.commit"
EVALUATION_KEY = "wikigpt.evaluation_key"
REGISTERED = "wikigpt.registered"  # the last thing that a version is given
EVALUATION_RUN = "wikigpt.evaluation_run"
CHAMPION_BEFORE = "wikigpt.champion_before"
ROLLED_BACK = "wikigpt.rolled_back"
# Of a registered model: the version that we saw as champion last. Where the alias stands on another one, a person put
# it there by a click, and this is the champion before.
LAST_CHAMPION = "wikigpt.last_champion"
SCHEMA = "wikigpt.schema"
SCHEMA_VERSION = "2"  # 1 had a fingerprint for an identity, and an evaluation for each run

MEASURES = ("word_perplexity", "token_perplexity", "bits_per_byte")  # the headlines of an evaluation

SETTINGS_FILE = "settings.json"
_EVALUATION_FOLDER = "evaluation"
_ABSENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}


def score_tag(split: str, measure: str) -> str:
    """The tag with a number of the evaluation, by the protocol of the gate."""
    return f"wikigpt.{split}.{measure}"


def param_text(value: Any) -> str:
    """A value as a parameter of a logged model, which MLflow cuts off at 500 characters."""
    return str(value)[:500]


def versions(client: MlflowClient, model: str, *, where: str = "") -> list[ModelVersion]:
    """The versions of a registered model, newest first; none where it does not exist.

    Args:
        client: of the registry.
        model: the name of the registered model.
        where: a further condition of MLflow's filter language.
    """
    condition = both(named("name", model), where)
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(condition, max_results=200, page_token=token)
        found += [version for version in page if version.name == model]
        if not (token := page.token):
            return sorted(found, key=lambda version: -int(version.version))


def version_of(client: MlflowClient, model: str, weights_digest: str) -> ModelVersion | None:
    """The version that has these weights; of several, one that is registered to its end, else the first."""
    return next(iter(versions_of(client, model, weights_digest)), None)


def versions_of(client: MlflowClient, model: str, weights_digest: str) -> list[ModelVersion]:
    """All versions that have these weights, the one that counts first; there are more only where a run lost a lock."""
    found = versions(client, model, where=f"tags.`{WEIGHTS_DIGEST}`='{weights_digest}'")[::-1]
    return sorted(found, key=lambda version: not is_complete(version))


def versions_of_request(client: MlflowClient, model: str, reuse_key: str) -> list[ModelVersion]:
    """The versions that were made of a reuse key, the first one first."""
    return versions(client, model, where=f"tags.`{REUSE_KEY}`='{reuse_key}'")[::-1]


def is_complete(version: ModelVersion) -> bool:
    """Whether a version was registered to its end, card and alias included."""
    return REGISTERED in version.tags


def reuse_key_of(version: ModelVersion) -> str:
    """What a version was asked for by; "" for one that is not of this project."""
    return version.tags.get(REUSE_KEY) or version.tags.get(FINGERPRINT, "")


def version_with_alias(client: MlflowClient, model: str, alias: str) -> ModelVersion | None:
    """The version that an alias stands on, or None.

    With MLflow's basic auth a user who is no administrator is refused an alias of a model that does not exist, which
    that user may make. Only a model that exists can be out of reach.
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
    """The evaluation that a version was judged by, or None where it is gone."""
    run = version.tags.get(EVALUATION_RUN) or version.run_id or ""
    weights = version.tags.get(WEIGHTS_DIGEST, "")
    # Versions of schema 1 share one folder with every other model that their run made, so whoever compares them must
    # look at the digest inside.
    return _kept(client, run, evaluation_folder(weights)) or _kept(client, run, _EVALUATION_FOLDER)


def keep_evaluation(client: MlflowClient, run: str, weights_digest: str, files: dict[str, Path]) -> None:
    """Logs the files of an evaluation of some weights, by the names they shall have, where `evaluation_of` looks."""
    with tempfile.TemporaryDirectory() as folder:
        for name, path in files.items():
            shutil.copyfile(path, Path(folder) / name)
        client.log_artifacts(run, folder, evaluation_folder(weights_digest))


def evaluation_folder(weights_digest: str) -> str:
    """The artifacts of a run that hold an evaluation; a run that trains twice keeps each model's apart."""
    return f"{_EVALUATION_FOLDER}/{weights_digest}"


def _kept(client: MlflowClient, run: str, folder: str) -> dict[str, Any] | None:
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as scratch:
        try:
            path = client.download_artifacts(run, f"{folder}/evaluation.json", scratch)
        except (MlflowException, OSError):
            return None
        return json.loads(Path(path).read_text(encoding="utf-8"))
