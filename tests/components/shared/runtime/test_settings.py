"""Invalid settings are named, with the value seen and the nearest valid name."""

import math
from dataclasses import dataclass
from typing import Literal

import pytest

from components.shared.base.failure import ExitCode, Failure
from components.shared.runtime.settings import parse_section


@dataclass(frozen=True, kw_only=True)
class ExampleSettings:
    learning_rate: float = 3e-4
    sequence_length: int = 256
    compiled: bool = False
    precision: Literal["float32", "bf16"] = "float32"
    betas: tuple[float, float] = (0.9, 0.95)
    pretrained: str | None = None

    def __post_init__(self):
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")


@dataclass(frozen=True, kw_only=True)
class NoSettings:
    pass


def parse(**values):
    return parse_section(ExampleSettings, values, "train")


def test_values_become_settings():
    assert parse() == ExampleSettings()
    assert parse(learning_rate=1, betas=[0.8, 0.9], pretrained="gpt2").betas == (0.8, 0.9)


def test_numbers_that_json_and_yaml_changed_are_restored():
    # KFP hands an integer on as a float; YAML 1.1 reads 3e-4 as text.
    settings = parse(sequence_length=512.0, learning_rate="3e-4")
    assert settings == ExampleSettings(sequence_length=512, learning_rate=3e-4)
    assert type(settings.sequence_length) is int


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"learning_rate": 0}, "train.learning_rate must be above 0, got 0.0"),
        ({"learning_rate": "fast"}, "train.learning_rate: .* got 'fast'"),
        ({"learning_rate": math.nan}, "train.learning_rate must be finite, got nan"),
        ({"learning_rate": "inf"}, "train.learning_rate must be finite, got 'inf'"),
        ({"betas": [0.9, math.inf]}, "train.betas must be finite"),
        ({"sequence_length": 2.5}, "train.sequence_length: .* got 2.5"),
        ({"sequence_length": True}, "train.sequence_length must be a number, got True"),
        ({"sequence_length": None}, "train.sequence_length: .* got None"),
        ({"compiled": "perhaps"}, "train.compiled: .* got 'perhaps'"),
        ({"precision": "fp8"}, "train.precision: .*'float32' or 'bf16', got 'fp8'"),
        ({"betas": [0.9]}, "train.betas"),
    ],
)
def test_an_invalid_value_is_reported_in_one_sentence(values, sentence):
    with pytest.raises(Failure, match=sentence) as caught:
        parse(**values)
    assert caught.value.exit_code is ExitCode.USAGE
    assert caught.value.where == "settings of train"


@pytest.mark.parametrize(
    ("key", "nearest"), [("learning_rat", "learning_rate"), ("rate", "learning_rate"), ("compile", "compiled")]
)
def test_an_unknown_key_is_reported_with_the_nearest_one(key, nearest):
    with pytest.raises(Failure, match=f"There is no setting train.{key}.*did you mean train.{nearest}\\?"):
        parse(**{key: 1})


def test_a_section_without_settings_has_no_nearest():
    with pytest.raises(Failure, match=r"There is no setting notify\.url .*: The settings of notify are: none"):
        parse_section(NoSettings, {"url": 1}, "notify")
