"""Every combination of adapters, optimizers and architectures that the settings allow trains."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch

from components.shared.storage.manifest import Manifest
from components.train.data import open_data
from components.train.extras.adapters import add_adapter
from components.train.loop import train
from components.train.model import build_model, save_model
from components.train.optim import build_optimizers
from components.train.settings import TrainSettings
from tests.components.train.conftest import tiny

CPU = torch.device("cpu")


def choices(name: str) -> tuple[str, ...]:
    """The values of a setting."""
    return get_args(get_type_hints(TrainSettings)[name])


@pytest.fixture(scope="module")
def pretrained(tokens: Manifest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Weights of each architecture."""
    facts = {"vocab_size": tokens.metadata["vocab_size"], "eos_id": tokens.metadata["eos_id"]}
    folders = {name: tmp_path_factory.mktemp(name) for name in choices("architecture")}
    for architecture, folder in folders.items():
        save_model(build_model(tiny(architecture=architecture), **facts), folder, **facts)
    return folders


def two_steps(settings: TrainSettings, tokens: Manifest, folder: Path, weights: Path | None) -> None:
    """Every trainable weight is in one optimizer, and two steps change all that have a gradient."""
    facts = {"vocab_size": tokens.metadata["vocab_size"], "eos_id": tokens.metadata["eos_id"]}
    # AdaLoRA plans its ranks over at least ten steps; the training here ends earlier.
    model = add_adapter(build_model(settings, weights=weights, **facts), settings, 10)
    trainable = {id(weight) for weight in model.parameters() if weight.requires_grad}
    groups = [group for each in build_optimizers(model, settings) for group in each.param_groups]
    optimized = [id(weight) for group in groups for weight in group["params"]]
    assert len(optimized) == len(set(optimized)) and set(optimized) == trainable
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    progress = train(model, open_data(settings, tokens.metadata, folder, CPU), settings, steps=2, device=CPU)
    assert progress.step == 2
    changed = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    # Before its first step one factor of LoRA is zero, and of AdaLoRA the values between its factors are.
    still = {name for name, weight in model.named_parameters() if id(weight) in trainable} - changed
    assert changed and not still


@pytest.mark.parametrize(
    ("architecture", "optimizer", "adapter"),
    list(product(choices("architecture"), choices("optimizer"), choices("adapter"))),
)
def test_pretrained_weights_train_by_every_adapter_and_optimizer(
    architecture: str, optimizer: Any, adapter: Any, pretrained: dict[str, Path], tokens: Manifest, tokens_dir: Path
) -> None:
    values = {"pretrained": str(pretrained[architecture]), "optimizer": optimizer, "adapter": adapter}
    values |= {"steps": 2, "prefix_tokens": 4, "decay": "constant"}
    if (optimizer, adapter) == ("muon", "prefix"):
        with pytest.raises(ValueError, match="optimizer must be adamw with a prefix"):
            tiny(**values)
        return
    two_steps(tiny(**values), tokens, tokens_dir, pretrained[architecture])


@pytest.mark.parametrize(
    ("architecture", "optimizer", "init", "precision"),
    list(product(choices("architecture"), choices("optimizer"), choices("init"), ("float32", "bfloat16"))),
)
def test_a_model_from_scratch_trains_by_every_optimizer(
    architecture: str, optimizer: str, init: str, precision: str, tokens: Manifest, tokens_dir: Path
) -> None:
    values = {"architecture": architecture, "optimizer": optimizer, "init": init, "precision": precision}
    two_steps(tiny(steps=2, decay="constant", **values), tokens, tokens_dir, None)


def test_muon_leaves_the_singular_values_of_adalora_to_adamw(pretrained: dict[str, Path], tokens: Manifest) -> None:
    settings = tiny(pretrained=str(pretrained["gpt2"]), adapter="adalora", optimizer="muon")
    facts = {"vocab_size": tokens.metadata["vocab_size"], "eos_id": tokens.metadata["eos_id"]}
    model = add_adapter(build_model(settings, weights=pretrained["gpt2"], **facts), settings, 10)
    adamw, muon = build_optimizers(model, settings)
    name_of = {id(weight): name for name, weight in model.named_parameters()}
    by_adamw, by_muon = (
        [name_of[id(weight)] for group in each.param_groups for weight in group["params"]] for each in (adamw, muon)
    )
    assert by_adamw and all("lora_E" in name for name in by_adamw)
    assert by_muon and all("lora_A" in name or "lora_B" in name for name in by_muon)


def test_with_lora_and_muon_adamw_has_no_parameters(pretrained: dict[str, Path], tokens: Manifest) -> None:
    settings = tiny(pretrained=str(pretrained["gpt2"]), adapter="lora", optimizer="muon")
    facts = {"vocab_size": tokens.metadata["vocab_size"], "eos_id": tokens.metadata["eos_id"]}
    model = add_adapter(build_model(settings, weights=pretrained["gpt2"], **facts), settings, 10)
    (muon,) = build_optimizers(model, settings)
    assert type(muon).__name__ == "BatchedMuon"
