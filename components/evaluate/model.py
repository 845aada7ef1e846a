"""Loads the trained model for the evaluation, on a device and with a fixed number of threads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.evaluate.scoring import Scorer, context_of
from components.shared.base.failure import ExitCode, Failure
from components.shared.base.renamed_keys import with_new_names
from components.shared.model.hardware import cores_granted, keep_freed_memory, pick_device, precision_by_capability
from components.shared.model.head import has_linear_lm_head
from components.shared.model.reach import trained_reach

if TYPE_CHECKING:
    from components.evaluate.settings import EvaluateSettings


_CPU_BATCH, _GPU_BATCH = 2048, 65_536


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer.

    Attributes:
        scorer: the model together with its scoring parameters.
        tokenizer: a fast tokenizer of transformers.
        trained_bos: the token that separated texts in training; None if there was no such token.
        tokenizer_digest: the digest of the tokenizer, from the model's manifest.
        prefixed: whether the model has a trained prefix, which is not in its weights.
    """

    scorer: Scorer
    tokenizer: Any
    trained_bos: int | None
    tokenizer_digest: str
    prefixed: bool = False

    @property
    def model(self) -> Any:
        return self.scorer.model


def load_model(folder: Path, metadata: dict[str, Any], settings: EvaluateSettings) -> LoadedModel:
    """Loads the Hugging Face folder of a trained model.

    Raises:
        Failure: the tokenizer is missing, a GPU is required and absent, or the window exceeds the context.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    threads = settings.threads or cores_granted()
    torch.set_num_threads(threads)
    device, dtype = numerics_of(settings)
    if device == "cpu":
        keep_freed_memory()
    if not (folder / "tokenizer.json").is_file():
        raise Failure(
            "The folder of the model has no tokenizer.json",
            where=str(folder),
            remedy="train again; the training step saves both together",
        )
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    # As in the tokenize step: text that spells a special token is encoded as text.
    tokenizer.backend_tokenizer.encode_special_tokens = True
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True
    )
    if prefixed := not metadata.get("merged", True):
        from components.evaluate.prefix import Prefixed

        model = Prefixed(model, folder / "adapter")
    model.to(device=torch.device(device)).eval()
    context = context_of(model)
    window = _window(settings, context, trained_reach(context, metadata.get("identity", {})))
    # Each worker keeps a batch in memory, and more workers than cores would not be faster.
    workers = min(threads, cores_granted()) if device == "cpu" else 1
    batch_tokens = settings.batch_tokens or (_CPU_BATCH if device == "cpu" else _GPU_BATCH)
    plain_head = not prefixed and has_linear_lm_head(model)
    scorer = Scorer(model, window, settings.stride or window, dtype, batch_tokens, workers, plain_head)
    trained_bos = _trained_bos(tokenizer, metadata, settings)
    return LoadedModel(scorer, tokenizer, trained_bos, metadata["tokenizer_digest"], prefixed)


def numerics_of(settings: EvaluateSettings) -> tuple[str, str]:
    """Resolves the device and the dtype of the settings on this machine.

    On a CPU `auto` is always float32, so that scores remain comparable with earlier ones.

    Raises:
        Failure: the settings require a GPU and torch finds none.
    """
    device = pick_device(settings.device, "evaluate.device")
    if settings.dtype != "auto":
        return device, settings.dtype
    return device, precision_by_capability("cuda") if device == "cuda" else "float32"


def _window(settings: EvaluateSettings, context: int, reach: int) -> int:
    window = settings.window or reach
    if window > context:
        raise Failure(
            f"A window of {window} tokens does not fit the model's context of {context}",
            where="evaluate.window",
            remedy=f"set it to {context} or less",
            exit_code=ExitCode.USAGE,
        )
    if (settings.stride or window) > window:
        raise Failure(
            f"A stride of {settings.stride} tokens would leave tokens between windows of {window} unscored",
            where="evaluate.stride",
            remedy=f"set it to {window} or less",
            exit_code=ExitCode.USAGE,
        )
    return window


def _trained_bos(tokenizer: Any, metadata: dict[str, Any], settings: EvaluateSettings) -> int | None:
    known = bool(with_new_names(metadata.get("identity", {})).get("train.prepend_eos", True))
    if settings.bos == "never" or (settings.bos == "auto" and not known):
        return None
    return tokenizer.eos_token_id
