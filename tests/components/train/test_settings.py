import pytest

from components.shared.base.failure import Failure
from components.shared.runtime.settings import parse_section
from components.train.settings import CheckpointSettings, TrainSettings


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be from 1e-12 to 100, got 0.0; the nearest is 1e-12"),
        ({"learning_rate": float("nan")}, "learning_rate must be from 1e-12 to 100, got nan"),
        (
            {"hidden_size": 100, "num_attention_heads": 3},
            "hidden_size must be a multiple of twice num_attention_heads, 6, got 100; the nearest is 102",
        ),
        (
            {"hidden_size": 100, "num_attention_heads": 3, "architecture": "gpt2"},
            "hidden_size must be a multiple of num_attention_heads 3, got 100; the nearest is 99",
        ),
        (
            {"num_attention_heads": 4, "key_value_heads": 3},
            "key_value_heads must divide num_attention_heads 4, got 3; the nearest is 2",
        ),
        ({"sequence_length": 2048}, "sequence_length must be at most context 1024, got 2048"),
        (
            {"global_batch_size": 6, "gradient_accumulation_steps": 4},
            "global_batch_size must be a multiple of gradient_accumulation_steps times processes, 4, got 6;"
            " the nearest is 8",
        ),
        (
            {"global_batch_size": 6, "gradient_accumulation_steps": 3, "processes": 4},
            "global_batch_size must be a multiple of .* 12, got 6",
        ),
        ({"dropout": 1.0}, "dropout must be from 0 to 0.999, got 1.0; the nearest is 0.999"),
        ({"ema_decay": 1.0}, "ema_decay must be from 0 to 0.999999, got 1.0; the nearest is 0.999999"),
        ({"steps": None}, "steps, epochs or tokens must be set"),
        ({"pretrained": "openai-community/gpt2"}, "revision must be a commit of 40 hex digits"),
        ({"pretrained": "openai-community/gpt2", "revision": "main"}, "revision must be a commit"),
        ({"pretrained": "models:/wikigpt"}, "pretrained must be models:/NAME/VERSION or models:/NAME@ALIAS, got"),
        ({"pretrained": "models:/wikigpt/7", "revision": "0" * 40}, "revision must be null for models:/wikigpt/7"),
        ({"adapter": "prefix", "pretrained": "./gpt2", "optimizer": "muon"}, "optimizer must be adamw with a prefix"),
        ({"adapter": "lora"}, "adapter must be none without pretrained weights, got lora"),
        ({"adapter": "lora", "pretrained": "./gpt2", "sampled_softmax": 64}, "sampled_softmax must be null with an ad"),
        ({"distill": ("gpt2",)}, "distill must be models:/NAME/VERSION or models:/NAME@ALIAS, got 'gpt2'"),
        ({"distill": ("models:/w/7", "models:/w/7")}, "distill must name each version once"),
        ({"distill_share": 1.5}, "distill_share must be from 0 to 1, got 1.5; the nearest is 1"),
        ({"distill_temperature": 0}, "distill_temperature must be from 0.01 to 100, got 0"),
        ({"sampled_softmax": 0}, "sampled_softmax must be from 1 to 10000000, got 0; the nearest is 1"),
    ],
)
def test_a_value_out_of_range_is_named(values: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        TrainSettings(**{"steps": 1, **values})


def test_the_shape_does_not_matter_to_pretrained_weights() -> None:
    settings = TrainSettings(steps=1, pretrained="./weights", hidden_size=100, num_attention_heads=3)
    assert not settings.from_hub


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"learning_rat": 1e-3}, "did you mean train.learning_rate"),
        ({"learning_rate": "fast"}, "train.learning_rate"),
        ({"architecture": "lstm"}, "train.architecture"),
        ({"distill": "models:/w/7"}, "train.distill: Input should be a list, as in [a, b], got 'models:/w/7'"),
        ({"global_batch_size": 0}, "train.global_batch_size must be from 1 to 1000000, got 0; the nearest is 1"),
    ],
)
def test_a_wrong_setting_of_a_run_is_one_sentence(values: dict, words: str) -> None:
    with pytest.raises(Failure) as caught:
        parse_section(TrainSettings, {"steps": 1, **values}, "train")
    assert words in str(caught.value)


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_the_time_between_checkpoints_is_above_zero(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"every_seconds must be from 0\.001 to 31536000, got"):
        CheckpointSettings(every_seconds=seconds)
    assert CheckpointSettings(every_seconds=60).every_seconds == 60
    assert CheckpointSettings().every_seconds is None


def test_checkpoints_are_kept_one_at_least() -> None:
    with pytest.raises(ValueError, match="keep must be from 1 to 1000, got 0"):
        CheckpointSettings(keep=0)
