"""The context that a model was trained with."""

from __future__ import annotations

from typing import Any

import pytest

from components.shared.model.reach import REACH_OF_START, trained_reach


@pytest.mark.parametrize(
    ("identity", "reach"),
    [
        ({}, 1024),
        ({"train.sequence_length": 256, "train.pretrained": None}, 256),
        ({"train.sequence_length": 2048}, 1024),
        ({"train.block": 128}, 128),  # the former name of the setting
        ({"train.sequence_length": 256, "train.pretrained": "openai-community/gpt2"}, 1024),
        ({"train.sequence_length": 256, "train.pretrained": "models:/wikigpt/7", REACH_OF_START: 128}, 256),
        ({"train.sequence_length": 128, "train.pretrained": "models:/wikigpt/7", REACH_OF_START: 256}, 256),
        ({"train.sequence_length": 128, "train.pretrained": "models:/wikigpt/7", REACH_OF_START: "1024"}, 1024),
    ],
)
def test_the_longest_context_of_the_whole_history_counts(identity: dict[str, Any], reach: int) -> None:
    assert trained_reach(1024, identity) == reach
