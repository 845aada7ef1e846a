"""The `--set` options of a sweep: what varies, what all trials share, and what is wrong."""

import pytest

from components.shared.base.failure import Failure
from pipelines.config.sweep import split_space


def test_a_list_varies_a_setting_and_another_value_replaces_it():
    space, fixed = split_space("quick", ["train.learning_rate=[4e-3, 8e-3]", "train.steps=20"])
    assert ([dimension.text for dimension in space], fixed) == (
        ["train.learning_rate=[0.004, 0.008]"],
        ["train.steps=20"],
    )


def test_a_setting_that_is_a_list_itself_is_replaced():
    space, fixed = split_space("quick", ["evaluate.protocols=[hf-doc]", "train.seed=[1, 2]"])
    assert ([dimension.text for dimension in space], fixed) == (["train.seed=[1, 2]"], ["evaluate.protocols=[hf-doc]"])


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["train.steps=20"], "varies no setting"),
        (["train.learning_rat=[1, 2]"], r"no setting train\.learning_rat .*mean train\.learning_rate\?"),
        (["train.seed=[1, -1]"], r"train\.seed .*got -1"),
        (["train.seed=[1, 2]", "train.stebs=3"], r"no setting train\.stebs"),
        (["train.seed=[1, 2]", "train.pretrained=models:/wikigpt@champion"], "may move while a sweep .*by its number"),
        (["train.pretrained=[models:/wikigpt/7, models:/wikigpt@best]"], "alias models:/wikigpt@best may move"),
    ],
)
def test_what_is_wrong_is_refused_before_a_trial_is_made(overrides, sentence):
    with pytest.raises(Failure, match=sentence):
        split_space("quick", overrides)
