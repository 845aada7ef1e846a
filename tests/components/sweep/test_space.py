"""The settings that a sweep varies: how they are read, a grid, and what a sampler draws from."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from components.shared.base.failure import ExitCode, Failure
from components.sweep.space import Dimension, grid, parse_space


def test_a_space_is_read_as_yaml():
    assert parse_space(["train.learning_rate=[4e-3, 8.0e-3]", "train.optimizer=[muon, adamw]"]) == (
        Dimension("train.learning_rate", (0.004, 0.008)),
        Dimension("train.optimizer", ("muon", "adamw")),
    )


def test_a_grid_has_every_combination_once():
    space = parse_space(["a.x=[1, 2]", "a.y=[true, null]"])
    assert grid(space) == [
        {"a.x": 1, "a.y": True},
        {"a.x": 1, "a.y": None},
        {"a.x": 2, "a.y": True},
        {"a.x": 2, "a.y": None},
    ]


@pytest.mark.parametrize(
    ("values", "distribution"),
    [
        ((0.004, 0.008), FloatDistribution(0.004, 0.008, log=True)),
        ((0.008, 0.004), FloatDistribution(0.004, 0.008, log=True)),
        ((0.0, 0.3), FloatDistribution(0.0, 0.3)),
        ((1, 0.5), FloatDistribution(0.5, 1.0, log=True)),
        ((2, 8), IntDistribution(2, 8)),
        ((2, 4, 8), CategoricalDistribution((2, 4, 8))),
        ((2, 2), CategoricalDistribution((2, 2))),
        ((True, False), CategoricalDistribution((True, False))),
        (("muon", "adamw"), CategoricalDistribution(("muon", "adamw"))),
    ],
)
def test_two_numbers_are_a_range_for_a_sampler(values, distribution):
    assert Dimension("a.x", values).distribution() == distribution


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ([], "varies no setting"),
        (["train.steps=5"], r"Cannot read the values of a sweep in 'train\.steps=5'"),
        (["train.steps=[]"], "Cannot read the values"),
        (["train.steps=[[1], [2]]"], "Cannot read the values"),
        (["train.steps=[1"], "Cannot read the values"),
        (["train.steps=[1]", "train.steps=[2]"], r"varies 'train\.steps' twice"),
    ],
)
def test_a_wrong_space_is_refused(texts, sentence):
    with pytest.raises(Failure, match=sentence) as caught:
        parse_space(texts)
    assert caught.value.exit_code is ExitCode.USAGE
