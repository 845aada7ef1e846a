"""Logs the model with MLflow's transformers flavor: safetensors, a signature with parameters, pinned requirements."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.register.completions import write_completions
from components.register.lineage import TrainedModel, lineage_tags
from components.shared.base.failure import Failure
from components.shared.tracking import registry
from components.shared.tracking.datasets import dataset_of
from components.shared.tracking.run import PIPELINE_RUN_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

_REQUIREMENTS = ("mlflow", "torch", "transformers", "tokenizers", "safetensors")
_PROMPT, _CONTINUED = ["The castle was built in"], ["The castle was built in 1212 by"]
# The parameters that a caller may set, with their defaults. MLflow silently drops all others.
_PARAMETERS = {"max_new_tokens": 40, "do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0}
# Without a limit in the example, generation exceeds the context, and MLflow saves a signature without parameters.
_EXAMPLE = (_PROMPT, {"max_new_tokens": 8, "do_sample": False})


def log_model(client: MlflowClient, trained: TrainedModel, folder: Path) -> str:
    """Logs the model to the MLflow run of the pipeline run. A retry does not log it again.

    Args:
        client: a client of the tracking server.
        trained: the trained model.
        folder: the Hugging Face folder.

    Returns:
        The id of a logged model with the status READY.

    Raises:
        Failure: the folder has no tokenizer, or MLflow did not finish the model.
    """
    experiment = client.get_run(trained.run_id).info.experiment_id
    model_id = _from_earlier_attempt(client, experiment, trained) or _log_new(client, experiment, trained, folder)
    _attach(client, trained, model_id)
    return model_id


def _log_new(client: MlflowClient, experiment: str, trained: TrainedModel, folder: Path) -> str:
    model_id = client.create_logged_model(
        experiment,
        name=trained.name.replace(".", "-"),
        source_run_id=trained.run_id,
        tags=lineage_tags(trained),
        params={name: registry.param_text(value) for name, value in trained.model["identity"].items()},
        model_type="text-generation",
    ).model_id
    parts = load(folder)
    # Before the model, so that a READY model has them.
    _log_completions(client, parts, model_id)
    _upload(trained, parts, model_id)
    status = client.get_logged_model(model_id).status
    if str(status) != "READY":
        raise Failure(
            f"The status of the model in MLflow is {status}, so it is not registered",
            where=f"{client.tracking_uri}, logged model {model_id}",
            remedy="run again; the model is in the store and is not trained again",
        )
    return model_id


def _from_earlier_attempt(client: MlflowClient, experiment: str, trained: TrainedModel) -> str | None:
    """Returns the READY model of these weights from an earlier attempt of this run, and deletes unfinished ones."""
    theirs = f"tags.`{registry.WEIGHTS_DIGEST}` = '{trained.weights_digest}'"
    filter_ = f"{theirs} and tags.`{PIPELINE_RUN_TAG}` = '{trained.pipeline_run}'"
    taken = None
    for model in client.search_logged_models([experiment], filter_string=filter_):
        if str(model.status) == "READY" and taken is None:
            taken = model.model_id
        elif str(model.status) != "READY":
            client.delete_logged_model(model.model_id)
    return taken


def _log_completions(client: MlflowClient, parts: dict[str, Any], model_id: str) -> None:
    with tempfile.TemporaryDirectory(prefix="wikigpt-completions-") as scratch:
        path = Path(scratch) / registry.COMPLETIONS
        write_completions(parts["model"], parts["tokenizer"], path)
        client.log_model_artifact(model_id, str(path))


def _upload(trained: TrainedModel, parts: dict[str, Any], model_id: str) -> None:
    with _offline():
        import mlflow.transformers
        from mlflow.models import infer_signature

        mlflow.transformers.log_model(
            parts,
            task="text-generation",
            signature=infer_signature(_PROMPT, _CONTINUED, params=_PARAMETERS),
            input_example=_EXAMPLE,
            pip_requirements=requirements(),
            metadata={**lineage_tags(trained), "licence": str(trained.corpus.get("licence", ""))},
            model_id=model_id,
        )


def load(folder: Path) -> dict[str, Any]:
    """Loads the model and the tokenizer of a Hugging Face folder, by the names of the flavor's components.

    Raises:
        Failure: the folder has no tokenizer.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # transformers creates an empty tokenizer if the folder has none.
    if not (folder / "tokenizer.json").is_file():
        raise Failure(
            "The model has no tokenizer: there is no tokenizer.json",
            where=str(folder),
            remedy="run again; training saves the tokenizer with the weights",
        )
    model = AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
    )
    return {
        "model": model,
        "tokenizer": AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False),
    }


def requirements() -> list[str]:
    """Returns the requirements for serving, pinned to the installed versions without local parts such as +cpu."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in _REQUIREMENTS]


def _attach(client: MlflowClient, trained: TrainedModel, model_id: str) -> None:
    """Makes the model an output of its run and logs its scores on the datasets. Repeating it changes nothing."""
    from mlflow.entities import LoggedModelOutput, Metric

    run = client.get_run(trained.run_id)
    outputs = run.outputs.model_outputs if run.outputs else []
    if model_id not in {output.model_id for output in outputs}:
        client.log_outputs(trained.run_id, [LoggedModelOutput(model_id, step=0)])
    if client.get_logged_model(model_id).metrics:
        return
    metrics = []
    for (split, name), value in trained.measures().items():
        dataset = dataset_of(trained.corpus, split)
        linked = {"model_id": model_id, "dataset_name": dataset["name"], "dataset_digest": dataset["digest"]}
        metrics.append(Metric(f"{split}_{name}", value, run.info.start_time, 0, **linked))
    client.log_batch(trained.run_id, metrics=metrics)


@contextmanager
def _offline() -> Iterator[None]:
    """Prevents requests to the Hub: the flavor would ask it for a model card and a licence."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before
