from typing import get_args, get_type_hints

import pytest
import torch

from components.train.extras.muon import BatchedMuon
from components.train.model import build_model
from components.train.optim import OPTIMIZERS, WeightEMA, build_optimizers, lr_multiplier, set_learning_rate
from components.train.settings import TrainSettings
from tests.components.train.conftest import tiny


def names_in(model: torch.nn.Module, group: dict) -> set[str]:
    chosen = {id(weight) for weight in group["params"]}
    return {name for name, weight in model.named_parameters() if id(weight) in chosen}


@pytest.mark.parametrize("architecture", ["qwen3", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
def test_weight_decay_spares_embeddings_norms_and_biases(architecture: str, tied: bool) -> None:
    settings = tiny(architecture=architecture, weight_decay=0.5, tied_embeddings=tied)
    model = build_model(settings, vocab_size=64, eos_id=0)
    (adamw,) = build_optimizers(model, settings)
    spared, decayed = (names_in(model, group) for group in adamw.param_groups)
    assert [group["weight_decay"] for group in adamw.param_groups] == [0.0, 0.5]
    assert spared | decayed == {name for name, _ in model.named_parameters()}
    assert not spared & decayed
    plain = ("emb", "wte", "wpe", "lm_head", "norm", "ln_", "bias")
    assert spared == {name for name, _ in model.named_parameters() if any(word in name for word in plain)}


def test_muon_takes_the_matrices_of_the_layers_and_adamw_the_rest() -> None:
    settings = tiny(optimizer="muon", tied_embeddings=False, muon_learning_rate=0.5)
    model = build_model(settings, vocab_size=64, eos_id=0)
    adamw, muon = build_optimizers(model, settings)
    matrices = names_in(model, muon.param_groups[0])
    assert matrices == {name for name, weight in model.named_parameters() if "layers" in name and weight.ndim == 2}
    assert "lm_head.weight" in names_in(model, adamw.param_groups[0])
    assert set_learning_rate([adamw, muon], 0.5) == pytest.approx(settings.learning_rate / 2)
    assert muon.param_groups[0]["lr"] == pytest.approx(0.25)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 1e-4), (torch.float32, 0.02)])
def test_batched_muon_steps_as_torchs_does(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    shapes = [(48, 32), (32, 32), (48, 32), (32, 48)]
    mine = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [torch.nn.Parameter(weight.detach().clone()) for weight in mine]
    begun = [weight.detach().clone() for weight in mine]
    options = {"lr": 0.1, "weight_decay": 0.1}
    batched = BatchedMuon(mine, dtype=dtype, **options)
    torchs = torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **options)
    for _ in range(3):
        for ours, other in zip(mine, theirs, strict=True):
            ours.grad = torch.randn_like(ours)
            other.grad = ours.grad.clone()
        batched.step()
        torchs.step()
    for ours, other, start in zip(mine, theirs, begun, strict=True):
        assert (ours - other).norm() <= tolerance * (other - start).norm()
    assert batched.state_dict()["state"].keys() == torchs.state_dict()["state"].keys()
    for ours, other in zip(mine, theirs, strict=True):
        assert torch.equal(batched.state[ours]["momentum_buffer"], torchs.state[other]["momentum_buffer"])


@pytest.mark.parametrize(
    ("values", "step", "share"),
    [
        ({"warmup_steps": 4}, 0, 0.25),
        ({"warmup_steps": 4}, 3, 1.0),
        ({"warmup_steps": 4}, 4, 1.0),
        ({}, 50, 0.5),
        ({}, 99, 0.01),
        ({"min_lr_ratio": 0.2}, 50, 0.6),
        ({"decay": "cosine"}, 50, 0.5),
        ({"decay": "constant"}, 99, 1.0),
    ],
)
def test_the_learning_rate_of_a_step(values: dict, step: int, share: float) -> None:
    assert lr_multiplier(step, 100, tiny(**values)) == pytest.approx(share)


def test_the_average_follows_the_weights_and_gives_them_back() -> None:
    weights = {"w": torch.zeros(3)}
    average = WeightEMA(weights, 0.9)
    weights["w"].fill_(1.0)
    for step in range(100, 110):
        average.update(step)
    with average.applied():
        assert torch.allclose(weights["w"], torch.tensor(1 - 0.9**10))
    assert torch.equal(weights["w"], torch.ones(3))


def test_no_decay_means_no_average() -> None:
    weights = {"w": torch.ones(3)}
    average = WeightEMA(weights, None)
    average.update(0)
    with average.applied():
        assert torch.equal(weights["w"], torch.ones(3))
    assert not average.values


def test_each_optimizer_of_the_settings_has_its_own_function() -> None:
    assert set(OPTIMIZERS) == set(get_args(get_type_hints(TrainSettings)["optimizer"]))
    assert len(set(OPTIMIZERS.values())) == len(OPTIMIZERS)
