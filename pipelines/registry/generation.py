"""Text by a registered model."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.base.failure import ExitCode, Failure
from pipelines.registry.export import download_version

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class Writer:
    """A loaded version.

    Attributes:
        model, tokenizer: of transformers.
        context: tokens that the model can hold, prompt and continuation together.
    """

    model: Any
    tokenizer: Any
    context: int


def load_writer(client: MlflowClient, version: ModelVersion) -> Writer:
    """Loads a version: safetensors only, no remote code, nothing from the Hub.

    Raises:
        Failure: the version has no model or no tokenizer.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory(prefix="wikigpt-generate-") as scratch:
        folder = Path(scratch) / "model"
        download_version(client, version, folder)
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return Writer(model, tokenizer, int(model.config.max_position_embeddings))


def write(
    writer: Writer,
    prompt: str,
    *,
    max_new_tokens: int = 60,
    temperature: float = 0.8,
    top_k: int = 40,
    seed: int = 0,
) -> str:
    """The prompt with its continuation; equal arguments give equal text on one machine.

    Args:
        writer: the model.
        prompt: the beginning; of a long one the end is read, as far as the context reaches.
        max_new_tokens: tokens to add, fewer where the text ends.
        temperature: of sampling; 0 takes the likeliest token each time.
        top_k: likeliest tokens that a sample is drawn from.
        seed: of sampling.

    Raises:
        Failure: more tokens are asked for than the context holds, or the prompt is empty.
    """
    from components.evaluate.generate import generate

    if not 0 < max_new_tokens < writer.context:
        most = writer.context - 1
        raise _usage(
            f"--tokens must be at most {most} with this model, got {max_new_tokens}; the nearest is {most}",
            f"a context of {writer.context} tokens",
            "ask for fewer",
        )
    if not prompt.strip():
        raise _usage("The prompt is empty", "PROMPT", "give the text a beginning")
    return prompt + generate(
        writer.model,
        writer.tokenizer,
        prompt,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        seed=seed,
        context=writer.context,
    )


def _usage(what: str, where: str, remedy: str) -> Failure:
    return Failure(what, where=where, remedy=remedy, exit_code=ExitCode.USAGE)
