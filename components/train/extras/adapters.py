"""Parameter-efficient fine-tuning with peft: LoRA, AdaLoRA, prefix tuning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from components.shared.base.failure import ExitCode, Failure
from components.train.settings import TrainSettings

_MEMORY = ("ipt", "exp_avg_ipt", "exp_avg_unc")


def add_adapter(model: PreTrainedModel, settings: TrainSettings, steps: int) -> nn.Module:
    """Adds an adapter to the model, so that only the adapter is trained; without an adapter it returns the model.

    Args:
        model: the pretrained model.
        settings: `adapter` and its options.
        steps: the number of optimizer steps, over which AdaLoRA schedules its ranks.

    Raises:
        Failure: sequence and prefix together exceed the context, or there are too few steps for AdaLoRA.
    """
    if settings.adapter == "none":
        return model
    from peft import AdaLoraConfig, LoraConfig, PrefixTuningConfig, get_peft_model

    config: Any
    if settings.adapter == "prefix":
        _check_prefix(settings, model.config.max_position_embeddings)
        config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=settings.prefix_tokens)
        return get_peft_model(model, config)
    common: dict[str, Any] = {
        "task_type": "CAUSAL_LM",
        "lora_alpha": settings.adapter_alpha,
        "lora_dropout": settings.adapter_dropout,
        "target_modules": "all-linear",
        # GPT-2 stores its matrices transposed.
        "fan_in_fan_out": any(isinstance(module, Conv1D) for module in model.modules()),
    }
    if settings.adapter == "lora":
        return get_peft_model(model, LoraConfig(r=settings.adapter_rank, **common))
    if steps < 10:
        raise Failure(
            f"AdaLoRA needs at least 10 steps to schedule its ranks, got {steps}",
            where="train.steps",
            remedy="raise the budget, or set train.adapter=lora",
            exit_code=ExitCode.USAGE,
        )
    # The ranks start at 1.5 times the target and shrink to it between a tenth and seven tenths of the steps.
    ranks: dict[str, Any] = {"init_r": settings.adapter_rank * 3 // 2, "target_r": settings.adapter_rank}
    plan: dict[str, Any] = {"tinit": steps // 10, "tfinal": steps * 3 // 10, "deltaT": max(1, steps // 100)}
    return get_peft_model(model, AdaLoraConfig(total_step=steps, **ranks, **plan, **common))


def save_adapter(model: nn.Module, settings: TrainSettings, folder: Path) -> None:
    """Writes the adapter alone, as peft loads it onto the pretrained model that the settings name.

    An AdaLoRA adapter is written with all its ranks, because the weights of the best evaluation may use ranks that
    later steps pruned.
    """
    peft_model: Any = model
    config = peft_model.peft_config["default"]
    if settings.adapter == "adalora":
        config.rank_pattern = None
    config.base_model_name_or_path, config.revision = settings.pretrained, settings.revision
    peft_model.save_pretrained(folder, save_embedding_layers=False)


def merge(model: nn.Module, settings: TrainSettings) -> Any:
    """Merges the adapter into the model. A prefix cannot be merged, so the result is the pretrained model then."""
    peft_model: Any = model
    if settings.adapter == "none":
        return model
    return peft_model.get_base_model() if settings.adapter == "prefix" else peft_model.merge_and_unload()


class AdaLoraController:
    """The parts of AdaLoRA outside the gradient: a penalty for factors that are not orthogonal, and rank allocation.

    Zhang et al. 2023, "Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning".
    """

    def __init__(self, model: Any):
        self.model = model
        self.allocator = model.base_model.rankallocator
        self.config = model.peft_config["default"]

    @classmethod
    def of(cls, model: nn.Module) -> AdaLoraController | None:
        """The controller of a model, or None if its adapter is not AdaLoRA."""
        return cls(model) if hasattr(getattr(model, "base_model", None), "rankallocator") else None

    def penalty(self) -> Tensor:
        """The weighted mean distance of the factors from orthogonality. peft adds it only to its own losses."""
        factors = [
            weight if "lora_A" in name else weight.T
            for name, weight in self.model.named_parameters()
            if "lora_A" in name or "lora_B" in name
        ]
        distances = [torch.norm(rows @ rows.T - torch.eye(len(rows), device=rows.device)) for rows in factors]
        return self.config.orth_reg_weight * torch.stack(distances).mean()

    def allocate(self, step: int) -> None:
        """Updates the ranks. Call it after optimizer step `step`, from 0, and before the gradients are cleared."""
        self.model.base_model.update_and_allocate(step)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that a checkpoint needs."""
        memory = {f"{kind}/{name}": value for kind in _MEMORY for name, value in getattr(self.allocator, kind).items()}
        pattern = {f"pattern/{name}": torch.tensor(kept) for name, kept in (self.config.rank_pattern or {}).items()}
        return memory | pattern

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Restores the state from the result of `tensors`."""
        pattern = {}
        for path, value in tensors.items():
            kind, _, name = path.partition("/")
            if kind == "pattern":
                pattern[name] = value.tolist()
            else:
                getattr(self.allocator, kind)[name] = value.to(self.model.device)
        self.config.rank_pattern = pattern or None


def _check_prefix(settings: TrainSettings, context: int) -> None:
    if settings.sequence_length + settings.prefix_tokens > context:
        raise Failure(
            f"A sequence of {settings.sequence_length} tokens and a prefix of {settings.prefix_tokens} exceed"
            f" the context of {context}",
            where="train.sequence_length",
            remedy=f"set train.sequence_length to at most {context - settings.prefix_tokens}",
            exit_code=ExitCode.USAGE,
        )
