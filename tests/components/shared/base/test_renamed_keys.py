"""Settings keep their old names for one version, with a warning."""

import logging

import pytest

from components.shared.base import renamed_keys
from components.shared.base.failure import ExitCode, Failure
from components.shared.base.renamed_keys import RENAMED, with_new_keys, with_new_names
from components.train.settings import TrainSettings


@pytest.fixture(autouse=True)
def nothing_warned() -> None:
    renamed_keys._warn.cache_clear()


def test_every_new_name_is_a_setting_and_no_old_one_is() -> None:
    for old, new in RENAMED.items():
        assert old.startswith("train.") and new.startswith("train.")
        assert hasattr(TrainSettings(steps=1), new.removeprefix("train."))
        assert not hasattr(TrainSettings(steps=1), old.removeprefix("train."))


def test_an_old_key_is_replaced_with_one_warning_that_names_the_new_one(caplog: pytest.LogCaptureFixture) -> None:
    settings = {"profile": "quick", "train": {"seed": 1, "batch": 4, "steps": 2}, "notify": {}}
    with caplog.at_level(logging.WARNING):
        current = with_new_keys(settings, "a test")
        with_new_keys(settings, "a test")
    assert current == {"profile": "quick", "train": {"seed": 1, "global_batch_size": 4, "steps": 2}, "notify": {}}
    assert list(current["train"]) == ["seed", "global_batch_size", "steps"]
    assert [record.message for record in caplog.records] == [
        "warning: train.batch is now called train.global_batch_size; the next version will refuse the old name"
    ]
    assert settings["train"] == {"seed": 1, "batch": 4, "steps": 2}


def test_both_names_of_a_setting_are_refused() -> None:
    with pytest.raises(Failure, match=r"train\.batch is the old name of train\.global_batch_size") as caught:
        with_new_keys({"train": {"batch": 4, "global_batch_size": 8}}, "a test")
    assert caught.value.exit_code == ExitCode.USAGE


def test_records_of_an_older_version_are_read_by_their_new_names() -> None:
    recorded = {"dataset": "d", "train.block": 32, "train.steps": 5}
    assert with_new_names(recorded) == {"dataset": "d", "train.sequence_length": 32, "train.steps": 5}
