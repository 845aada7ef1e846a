import pytest

from components.notify.ending import Ending, Made, conclude, sentence
from components.shared.failure import Failure, Interrupted

BROKEN = {"step": "validate", **Failure("The test split is empty", where="test.txt", remedy="give it text").to_dict()}
STOPPED = {"step": "train", **Interrupted("The step was told to stop", where="SIGTERM").to_dict()}


@pytest.mark.parametrize(
    ("state", "recorded", "decision", "word", "status", "step"),
    [
        ("SUCCEEDED", None, "train", "succeeded", "FINISHED", None),
        ("SUCCEEDED", None, "skip", "skipped", "FINISHED", None),
        ("SUCCEEDED", BROKEN, "train", "succeeded", "FINISHED", None),
        ("FAILED", BROKEN, "train", "failed", "FAILED", "validate"),
        ("FAILED", BROKEN, "", "failed", "FAILED", "validate"),
        ("FAILED", None, "train", "failed", "FAILED", None),
        ("FAILED", STOPPED, "train", "interrupted", "KILLED", "train"),
        ("CANCELLED", STOPPED, "train", "interrupted", "KILLED", "train"),
        ("CANCELLED", None, "", "interrupted", "KILLED", None),
        ("CANCELLED", BROKEN, "train", "interrupted", "KILLED", "validate"),
        ("A_STATE_OF_TOMORROW", None, "", "failed", "FAILED", None),
    ],
)
def test_every_way_to_end(state, recorded, decision, word, status, step):
    ending = conclude(state, recorded, decision)
    assert (ending.word, ending.mlflow_status, ending.step) == (word, status, step)


def test_a_success_names_version_verdict_and_perplexity():
    made = Made("train", "", "wikigpt", "4", ("champion",), 139.204, "promote")
    assert sentence("night-1", Ending("succeeded"), made) == (
        "Run night-1 succeeded: version 4 of wikigpt is registered, the gate says promote."
        " Version 4: word perplexity 139.20 on test, alias champion."
    )


def test_a_skip_says_why():
    made = Made("skip", "version 4 is already made of these data", "wikigpt", "4", (), 139.2)
    text = sentence("night-2", Ending("skipped"), made)
    assert "trained nothing: version 4 is already made of these data." in text
    assert "139.20" in text


def test_a_failure_says_what_where_and_what_to_do():
    assert sentence("night-3", conclude("FAILED", BROKEN, ""), Made()) == (
        "Run night-3 failed in validate: The test split is empty (test.txt): give it text."
    )


def test_a_failure_that_left_no_word_points_to_the_log():
    assert "log" in sentence("night-3", conclude("FAILED", None, ""), Made())


def test_an_interruption_says_how_to_go_on():
    text = sentence("night-4", conclude("CANCELLED", STOPPED, "train"), Made())
    assert "interrupted in train" in text
    assert "run the same command again" in text
