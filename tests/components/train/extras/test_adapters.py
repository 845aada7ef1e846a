"""Parameter-efficient fine-tuning on weights that the tests create."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from components.shared.base.failure import Failure
from components.shared.storage.manifest import Manifest
from components.train.checkpoint import State, read_state, write_state
from components.train.data import open_data
from components.train.extras.adapters import AdaLoraController, add_adapter, merge, save_adapter
from components.train.loop import train
from components.train.model import build_model, save_model, token_loss
from components.train.optim import WeightEMA, build_optimizers
from components.train.settings import TrainSettings
from tests.components.train.conftest import tiny

CPU = torch.device("cpu")


@pytest.fixture
def weights(request: pytest.FixtureRequest, tokens: Manifest, tmp_path: Path) -> Path:
    architecture = getattr(request, "param", "gpt2")
    facts = {"vocab_size": tokens.metadata["vocab_size"], "eos_id": tokens.metadata["eos_id"]}
    save_model(build_model(tiny(architecture=architecture), **facts), tmp_path / "pretrained", **facts)
    return tmp_path / "pretrained"


def fine_tune(
    settings: TrainSettings, weights: Path, tokens: Manifest, tokens_dir: Path
) -> tuple[torch.nn.Module, list[float]]:
    """The model with its trained adapter, and the training losses."""
    facts = {"vocab_size": tokens.metadata["vocab_size"], "eos_id": tokens.metadata["eos_id"]}
    assert settings.steps
    model = add_adapter(build_model(settings, weights=weights, **facts), settings, settings.steps)
    corpus = open_data(settings, tokens.metadata, tokens_dir, CPU)
    progress = train(model, corpus, settings, steps=settings.steps, device=CPU)
    return model, [row["loss"] for row in progress.history if "loss" in row]


@pytest.mark.parametrize("weights", ["qwen3", pytest.param("gpt2", marks=pytest.mark.slow)], indirect=True)
@pytest.mark.parametrize("adapter", ["lora", pytest.param("adalora", marks=pytest.mark.slow)])
def test_it_learns_and_the_merged_model_says_the_same(
    adapter: str, weights: Path, tokens: Manifest, tokens_dir: Path, tmp_path: Path
) -> None:
    settings = tiny(pretrained=str(weights), adapter=adapter, steps=30, log_every=10, learning_rate=3e-2)
    model, losses = fine_tune(settings, weights, tokens, tokens_dir)
    assert losses[-1] < losses[0] - 0.1
    save_adapter(model, settings, tmp_path / "adapter")
    ids = torch.arange(24).reshape(2, 12)
    with torch.no_grad():
        before = model(input_ids=ids).logits
        merged = merge(model, settings)
        after = merged(input_ids=ids).logits
    assert torch.allclose(before, after, atol=1e-4)
    stored = AutoModelForCausalLM.from_pretrained(weights)
    assert not torch.allclose(stored(input_ids=ids).logits, after[..., : stored.config.vocab_size], atol=1e-2)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(weights)
    assert config["fan_in_fan_out"] == (stored.config.model_type == "gpt2")


def test_only_the_adapter_is_trained(weights: Path, tokens: Manifest, tokens_dir: Path) -> None:
    settings = tiny(pretrained=str(weights), adapter="lora", steps=2)
    model, _ = fine_tune(settings, weights, tokens, tokens_dir)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    stored = dict(AutoModelForCausalLM.from_pretrained(weights).named_parameters())
    key = "transformer.h.0.attn.c_attn"
    kept = dict(model.named_parameters())[f"base_model.model.{key}.base_layer.weight"]
    assert torch.equal(kept, stored[f"{key}.weight"])


@pytest.mark.parametrize(
    "values",
    [{"adapter": "lora", "steps": 6}, {"adapter": "adalora", "adapter_rank": 2, "steps": 30, "evaluate_every": 6}],
)
def test_the_adapter_that_was_kept_is_the_one_that_was_merged(
    values: dict, weights: Path, tokens: Manifest, tokens_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the best evaluation was before AdaLoRA had its final ranks."""
    from peft import PeftModel

    losses = iter([2.0, 1.0, *[3.0] * 10])
    monkeypatch.setattr("components.train.loop.validation_loss", lambda *args: next(losses))
    settings = tiny(pretrained=str(weights), learning_rate=3e-2, **values)
    model, _ = fine_tune(settings, weights, tokens, tokens_dir)
    save_adapter(model, settings, tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(weights), tmp_path / "adapter").eval()
    ids = torch.arange(24).reshape(2, 12)
    with torch.no_grad():
        ours = merge(model, settings)(input_ids=ids).logits
        theirs = loaded(input_ids=ids).logits
    assert torch.allclose(ours[..., : theirs.shape[-1]], theirs, atol=1e-4)


@pytest.mark.slow
def test_adalora_moves_its_ranks_and_keeps_its_factors_orthogonal(
    weights: Path, tokens: Manifest, tokens_dir: Path
) -> None:
    settings = tiny(pretrained=str(weights), adapter="adalora", adapter_rank=2, steps=30, learning_rate=3e-2)
    model, _ = fine_tune(settings, weights, tokens, tokens_dir)
    ranks = AdaLoraController.of(model)
    assert ranks and ranks.penalty() > 0
    kept = [sum(pattern) for pattern in ranks.config.rank_pattern.values()]
    assert sum(kept) == 2 * len(kept), "the target is met on the whole"
    assert len(set(kept)) > 1, "some matrices got more than others"


def test_the_ranks_of_adalora_are_part_of_a_checkpoint(
    weights: Path, tokens: Manifest, tokens_dir: Path, tmp_path: Path
) -> None:
    settings = tiny(pretrained=str(weights), adapter="adalora", steps=30)
    facts = {"vocab_size": tokens.metadata["vocab_size"], "eos_id": tokens.metadata["eos_id"]}
    model = add_adapter(build_model(settings, weights=weights, **facts), settings, 30)
    # While ranks still change, which ends after 21 steps.
    train(model, open_data(settings, tokens.metadata, tokens_dir, CPU), settings, steps=12, device=CPU)
    fresh = add_adapter(build_model(settings, weights=weights, **facts), settings, 30)

    def state_of(each: torch.nn.Module) -> State:
        trained: dict[str, torch.Tensor] = {n: w for n, w in each.named_parameters() if w.requires_grad}
        return State(
            trained, build_optimizers(each, settings), WeightEMA(trained, None), adalora=AdaLoraController.of(each)
        )

    write_state(state_of(model), tmp_path, "training")
    restored = state_of(fresh)
    read_state(restored, tmp_path)
    written, read = (each.tensors() for each in (AdaLoraController.of(model), restored.adalora) if each)
    kinds = {name.partition("/")[0] for name in written}
    assert kinds == {"ipt", "exp_avg_ipt", "exp_avg_unc", "pattern"}
    assert read.keys() == written.keys() and all(torch.equal(read[name], written[name]) for name in written)


@pytest.mark.parametrize("weights", ["qwen3", "gpt2"], indirect=True)
def test_a_prefix_learns_and_leaves_the_model_as_it_was(weights: Path, tokens: Manifest, tokens_dir: Path) -> None:
    settings = tiny(
        pretrained=str(weights), adapter="prefix", prefix_tokens=4, steps=30, log_every=10, learning_rate=0.3
    )
    model, losses = fine_tune(settings, weights, tokens, tokens_dir)
    assert losses[-1] < losses[0]
    ids = torch.arange(24).reshape(2, 12)
    stored = AutoModelForCausalLM.from_pretrained(weights)
    base = merge(model, settings)
    width = stored.config.vocab_size
    assert torch.allclose(base(input_ids=ids).logits[..., :width], stored(input_ids=ids).logits, atol=1e-5)
    assert not torch.allclose(model(input_ids=ids).logits, base(input_ids=ids).logits, atol=1e-3)


def test_a_prefix_occupies_part_of_the_context(weights: Path, tokens: Manifest) -> None:
    settings = tiny(pretrained=str(weights), adapter="prefix", prefix_tokens=8, sequence_length=60)
    facts = {"vocab_size": tokens.metadata["vocab_size"], "eos_id": tokens.metadata["eos_id"]}
    with pytest.raises(Failure, match="A sequence of 60 tokens and a prefix of 8 exceed the context of 64"):
        add_adapter(build_model(settings, weights=weights, **facts), settings, 8)


def test_an_adapter_ignores_the_padding_of_the_vocabulary(weights: Path, tokens: Manifest) -> None:
    settings = tiny(pretrained=str(weights), adapter="lora")
    facts = {"vocab_size": tokens.metadata["vocab_size"], "eos_id": tokens.metadata["eos_id"]}
    model = add_adapter(build_model(settings, weights=weights, **facts), settings, 8)
    ids = torch.arange(26).reshape(2, 13)
    stored = AutoModelForCausalLM.from_pretrained(weights)
    ours = token_loss(model.eval(), ids[:, :-1], ids[:, 1:], facts["vocab_size"])
    theirs = token_loss(stored.eval(), ids[:, :-1], ids[:, 1:], facts["vocab_size"])
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-5)
