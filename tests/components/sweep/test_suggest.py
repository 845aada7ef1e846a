"""The next trials of a sweep: a grid in order, and samplers that neither repeat themselves nor leave the space."""

import math

import pytest

from components.shared.base.failure import Failure
from components.sweep.space import parse_space
from components.sweep.suggest import suggest
from components.sweep.trials import Trial

SPACE = parse_space(["train.learning_rate=[1e-4, 1.0]"])


def trial(number: int, values: dict, result: float | None) -> Trial:
    return Trial(number, number, values, f"sweep.trial-{number}", f"id-{number}", "FINISHED", result, {})


def searched(sampler: str, rounds: int, at_once: int = 1) -> list[Trial]:
    """A search for the learning rate whose logarithm is nearest to that of 0.03."""
    tried: list[Trial] = []
    for _ in range(rounds):
        for values in suggest(SPACE, sampler, tried, count=at_once, seed=1):
            tried.append(trial(len(tried), values, abs(math.log(values["train.learning_rate"] / 0.03))))
    return tried


def test_a_grid_goes_on_where_it_was():
    space = parse_space(["a.x=[1, 2]", "a.y=[3, 4]"])
    tried = [trial(0, {"a.x": 1, "a.y": 3}, 5.0), trial(1, {"a.x": 1, "a.y": 4}, None)]
    assert suggest(space, "grid", tried, count=9, seed=0) == [{"a.x": 2, "a.y": 3}, {"a.x": 2, "a.y": 4}]
    assert suggest(space, "grid", tried[:1], count=1, seed=0) == [{"a.x": 1, "a.y": 4}]


@pytest.mark.parametrize("sampler", ["random", "optuna"])
def test_a_sampler_stays_in_the_space_repeats_nothing_and_is_decided_by_its_seed(sampler):
    tried = searched(sampler, rounds=6, at_once=2)
    values = [each.values["train.learning_rate"] for each in tried]
    assert len(set(values)) == 12 and all(1e-4 <= value <= 1.0 for value in values)
    assert [each.values for each in searched(sampler, rounds=6, at_once=2)] == [each.values for each in tried]


def test_optuna_learns_from_earlier_trials():
    """The later half of its trials is nearer to the optimum than the trials drawn at random."""
    later = {by: sorted(each.word_perplexity for each in searched(by, 24)[12:]) for by in ("random", "optuna")}
    assert later["optuna"][6] < later["random"][6]


def test_where_everything_was_tried_there_is_nothing_to_suggest():
    space = parse_space(["a.x=[red, green]"])
    first = suggest(space, "optuna", [], count=5, seed=0)
    assert sorted(each["a.x"] for each in first) == ["green", "red"]
    tried = [trial(number, values, 1.0) for number, values in enumerate(first)]
    assert suggest(space, "optuna", tried, count=1, seed=0) == []


def test_an_unknown_sampler_is_refused():
    with pytest.raises(Failure, match=r"no sampler 'bayes' .*grid, random, optuna"):
        suggest(SPACE, "bayes", [], count=1, seed=0)
