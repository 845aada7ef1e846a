import math
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from components.shared.base.failure import ExitCode, Failure
from components.train.model import build_model, save_model, token_loss
from tests.components.train.conftest import loss_after_learning, tiny

VOCABULARY, EOS = 100, 0
BOTH = pytest.mark.parametrize("architecture", ["qwen3", "gpt2"])


def build(**values) -> torch.nn.Module:
    return build_model(tiny(**values), vocab_size=VOCABULARY, eos_id=EOS)


def ids(*shape: int) -> torch.Tensor:
    return torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(3))


@BOTH
def test_a_token_does_not_see_what_comes_after_it(architecture: str) -> None:
    model, tokens = build(architecture=architecture).eval(), ids(1, 12)
    changed = tokens.clone()
    changed[0, 8] = (changed[0, 8] + 1) % VOCABULARY
    before, after = model(input_ids=tokens).logits, model(input_ids=changed).logits
    assert torch.equal(before[:, :8], after[:, :8])
    assert not torch.allclose(before[:, 8:], after[:, 8:])


@BOTH
def test_the_order_of_the_prefix_matters(architecture: str) -> None:
    model, tokens = build(architecture=architecture).eval(), ids(1, 12)
    permuted = torch.cat([tokens[:, :10].flip(1), tokens[:, 10:]], dim=1)
    # After several layers even a model without positions could distinguish them, so the model has one layer.
    single = build(architecture=architecture, num_hidden_layers=1).eval()
    for each in (model, single):
        assert not torch.allclose(each(input_ids=tokens).logits[0, -1], each(input_ids=permuted).logits[0, -1])


@BOTH
def test_the_initial_loss_is_that_of_a_guess(architecture: str) -> None:
    tokens = ids(8, 33)
    loss = token_loss(build(architecture=architecture), tokens[:, :-1], tokens[:, 1:], VOCABULARY)
    assert loss.item() == pytest.approx(math.log(VOCABULARY), abs=0.15)


@BOTH
def test_one_batch_can_be_learned_by_heart(architecture: str) -> None:
    assert loss_after_learning(build(architecture=architecture), ids(2, 17), VOCABULARY) < 0.1


@BOTH
@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_has_a_gradient(architecture: str, tied: bool) -> None:
    model, tokens = build(architecture=architecture, tied_embeddings=tied, sequence_length=64), ids(8, 65)
    token_loss(model, tokens[:, :-1], tokens[:, 1:], VOCABULARY).backward()
    assert not [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]


def test_the_loss_is_the_mean_over_tokens_and_counts_every_end_of_text() -> None:
    model, tokens = build().eval(), ids(2, 17)
    tokens[0, 5] = tokens[1, 9] = EOS
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    logits = model(input_ids=inputs).logits[..., :VOCABULARY].double()
    by_hand = -logits.log_softmax(-1).gather(-1, targets[..., None]).mean()
    assert token_loss(model, inputs, targets, VOCABULARY).item() == pytest.approx(by_hand.item(), abs=1e-5)


def test_the_padding_of_the_vocabulary_speeds_up_and_changes_nothing(tmp_path: Path) -> None:
    model, tokens = build(), ids(2, 17)
    assert model.config.vocab_size == 128
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    padded = token_loss(model.eval(), inputs, targets, VOCABULARY).item()
    save_model(model, tmp_path, vocab_size=VOCABULARY, eos_id=EOS)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, use_safetensors=True)
    assert loaded.config.vocab_size == VOCABULARY
    assert loaded.config.use_cache and loaded.generation_config.eos_token_id == EOS
    logits = loaded(input_ids=inputs).logits
    assert torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).item() == pytest.approx(padded)


@BOTH
@pytest.mark.parametrize("kind", ["dropout", "attention_dropout", "embedding_dropout"])
def test_dropout_acts_in_training_alone(architecture: str, kind: str) -> None:
    model, tokens = build(architecture=architecture, **{kind: 0.5}), ids(1, 12)
    first, second = (model.train()(input_ids=tokens).logits for _ in range(2))
    assert not torch.allclose(first, second)
    first, second = (model.eval()(input_ids=tokens).logits for _ in range(2))
    assert torch.equal(first, second)


def test_embedding_dropout_drops_a_word_at_every_position() -> None:
    model = build(embedding_dropout=0.5).train()
    vectors = model.get_input_embeddings()(torch.arange(VOCABULARY).repeat(2, 1))
    assert torch.equal(vectors[0], vectors[1])
    dropped = ~vectors[0].any(-1)
    assert 0.3 < dropped.float().mean() < 0.7


def test_equal_seeds_make_equal_models() -> None:
    one, same, other = (build(seed=seed).get_input_embeddings().weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


class TestPretrained:
    @pytest.fixture
    def weights(self, tmp_path: Path) -> Path:
        save_model(build(architecture="gpt2"), tmp_path / "gpt2", vocab_size=VOCABULARY, eos_id=EOS)
        return tmp_path / "gpt2"

    def test_training_begins_with_the_pretrained_weights(self, weights: Path) -> None:
        model = build_model(
            tiny(pretrained=str(weights), dropout=0.3), vocab_size=VOCABULARY, eos_id=EOS, weights=weights
        )
        stored = AutoModelForCausalLM.from_pretrained(weights)
        tokens = ids(1, 12)
        assert torch.allclose(
            model.eval()(input_ids=tokens).logits[..., :VOCABULARY], stored(input_ids=tokens).logits, atol=1e-6
        )
        assert model.config.resid_pdrop == 0.3

    def test_another_tokenizer_is_refused(self, weights: Path) -> None:
        with pytest.raises(Failure, match="The tokenizer has 5000 entries and the pretrained model 100"):
            build_model(tiny(pretrained=str(weights)), vocab_size=5000, eos_id=EOS, weights=weights)

    def test_a_block_longer_than_the_context_is_refused(self, weights: Path) -> None:
        with pytest.raises(Failure, match="A sequence of 128 tokens is longer than the context"):
            build_model(
                tiny(pretrained=str(weights), sequence_length=128), vocab_size=VOCABULARY, eos_id=EOS, weights=weights
            )

    def test_logits_that_a_sampled_softmax_cannot_make_are_refused(self, tmp_path: Path) -> None:
        config = AutoConfig.for_model(
            "granite",
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=2,
            logits_scaling=2.0,
        )
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
        build_model(tiny(pretrained=str(tmp_path)), vocab_size=VOCABULARY, eos_id=EOS, weights=tmp_path)
        with pytest.raises(Failure, match="The logits of a granite model are scaled") as caught:
            build_model(
                tiny(pretrained=str(tmp_path), sampled_softmax=64), vocab_size=VOCABULARY, eos_id=EOS, weights=tmp_path
            )
        assert caught.value.exit_code == ExitCode.USAGE
