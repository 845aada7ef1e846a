"""Parameter-efficient fine-tuning by peft: LoRA, AdaLoRA, prefix tuning."""

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
    """The model with an adapter, whose weights alone are trained; without one it is the model itself.

    Args:
        model: pretrained.
        settings: `adapter` and what goes with it.
        steps: the budget, which AdaLoRA plans its ranks over.

    Raises:
        Failure: block and prefix together exceed the context, or the budget is too short for AdaLoRA.
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
        # GPT-2 keeps its matrices transposed.
        "fan_in_fan_out": any(isinstance(module, Conv1D) for module in model.modules()),
    }
    if settings.adapter == "lora":
        return get_peft_model(model, LoraConfig(r=settings.adapter_rank, **common))
    if steps < 10:
        raise Failure(
            f"AdaLoRA needs at least 10 steps to plan its ranks over, got {steps}",
            where="train.steps",
            remedy="raise the budget, or set train.adapter=lora",
            exit_code=ExitCode.USAGE,
        )
    # The ranks begin half as large again and shrink to the target between a tenth and seven tenths of the budget.
    ranks: dict[str, Any] = {"init_r": settings.adapter_rank * 3 // 2, "target_r": settings.adapter_rank}
    plan: dict[str, Any] = {"tinit": steps // 10, "tfinal": steps * 3 // 10, "deltaT": max(1, steps // 100)}
    return get_peft_model(model, AdaLoraConfig(total_step=steps, **ranks, **plan, **common))


def save_adapter(model: nn.Module, settings: TrainSettings, folder: Path) -> None:
    """Writes the adapter by itself, as peft loads it onto the pretrained model that the settings name.

    AdaLoRA's has all its ranks: those that its last steps cut off may count in the weights of the best evaluation.
    """
    peft_model: Any = model
    config = peft_model.peft_config["default"]
    if settings.adapter == "adalora":
        config.rank_pattern = None
    config.base_model_name_or_path, config.revision = settings.pretrained, settings.revision
    peft_model.save_pretrained(folder, save_embedding_layers=False)


def merge(model: nn.Module, settings: TrainSettings) -> Any:
    """The plain model with the adapter in its weights. A prefix cannot be merged: then it is the pretrained model."""
    peft_model: Any = model
    if settings.adapter == "none":
        return model
    return peft_model.get_base_model() if settings.adapter == "prefix" else peft_model.merge_and_unload()


class Ranks:
    """What AdaLoRA does beside the gradient: it keeps its factors orthogonal and moves ranks to where they matter.

    Zhang et al. 2023, "Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning".
    """

    def __init__(self, model: Any):
        self.model = model
        self.allocator = model.base_model.rankallocator
        self.config = model.peft_config["default"]

    @classmethod
    def of(cls, model: nn.Module) -> Ranks | None:
        """That of a model, or None where its adapter is another or none."""
        return cls(model) if hasattr(getattr(model, "base_model", None), "rankallocator") else None

    def penalty(self) -> Tensor:
        """The mean distance of the factors from orthogonal ones, weighted; peft adds it only to losses of its own."""
        factors = [
            weight if "lora_A" in name else weight.T
            for name, weight in self.model.named_parameters()
            if "lora_A" in name or "lora_B" in name
        ]
        distances = [torch.norm(rows @ rows.T - torch.eye(len(rows), device=rows.device)) for rows in factors]
        return self.config.orth_reg_weight * torch.stack(distances).mean()

    def allocate(self, step: int) -> None:
        """Between the optimizer's step (counted from 0) and the end of its gradients."""
        self.model.base_model.update_and_allocate(step)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint needs."""
        memory = {f"{kind}/{name}": value for kind in _MEMORY for name, value in getattr(self.allocator, kind).items()}
        pattern = {f"pattern/{name}": torch.tensor(kept) for name, kept in (self.config.rank_pattern or {}).items()}
        return memory | pattern

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`."""
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
