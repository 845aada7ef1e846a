"""Generates text with a registered model."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.base.failure import ExitCode, Failure
from components.shared.base.imports import without
from pipelines.registry.export import download_version
from pipelines.registry.verification import require_verified

if TYPE_CHECKING:
    from components.shared.tracking.sqlite_registry import AnyVersion, RegistryReader

# transformers imports them for models on several devices, and for the losses of image models.
_NOT_NEEDED = ("accelerate", "scipy")
# Threads that share the work of one token of such a model wait for each other for most of the time.
_SMALL = 30_000_000  # parameters


@dataclass(frozen=True)
class Writer:
    """A loaded version.

    Attributes:
        model, tokenizer: the objects of transformers.
        context: the number of tokens that the model can process, prompt and continuation together.
    """

    model: Any
    tokenizer: Any
    context: int


def load_writer(client: RegistryReader, version: AnyVersion) -> Writer:
    """Loads a version from safetensors, without remote code and without the Hub.

    Raises:
        Failure: the version has no model or no tokenizer, or does not verify by the configured public key.
    """
    import torch

    with tempfile.TemporaryDirectory(prefix="wikigpt-generate-") as scratch, without(*_NOT_NEEDED):
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        folder = Path(scratch) / "model"
        download_version(client, version, folder)
        require_verified(client, version, folder)
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
        ).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if model.num_parameters() < _SMALL:
        torch.set_num_threads(1)
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
    """Returns the prompt with its continuation. On one machine, equal arguments give equal text.

    Args:
        writer: the model.
        prompt: the beginning of the text. For a long prompt, the last tokens that fit the context are used.
        max_new_tokens: the number of tokens to add; fewer if the text ends.
        temperature: the sampling temperature; 0 chooses the most probable token each time.
        top_k: the number of most probable tokens to sample from.
        seed: the seed of the sampling.

    Raises:
        Failure: the context is too small for this many tokens, or the prompt is empty.
    """
    from components.evaluate.generate import generate

    if not 0 < max_new_tokens < writer.context:
        most = writer.context - 1
        raise _usage(
            f"--tokens must be at most {most} with this model, got {max_new_tokens}; the nearest is {most}",
            f"a context of {writer.context} tokens",
            "choose fewer",
        )
    if not prompt.strip():
        raise _usage("The prompt is empty", "PROMPT", "write the beginning of the text")
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
