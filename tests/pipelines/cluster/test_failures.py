"""The failure of a step is read from its log."""

import json

import pytest

from pipelines.cluster.failures import failure_in
from tests.kfp_stand_in.recorded import recorded_log

LOSS = (
    "The loss is 7.803908348083496 in step 4 (gradient norm nan, learning rate near 5e+05) (epoch 0, batch 3 of 111,"
    " articles 6, 12, 20, 27, 39, 52, 72, 156, 188 of the train split): lower train.learning_rate or raise"
    " train.warmup_steps, and look at that text."
)
LAUNCHER = "E1127 02:01:07.512190      15 launcher_v2.go:449] Component failed to execute successfully: exit status 1"


def test_the_sentence_in_the_recorded_log_that_the_server_gave():
    assert failure_in(recorded_log("log-of-failed-train-pod")[1]) == LOSS


def test_the_event_says_it_where_the_log_is_whole():
    fields = {"what": "The corpus is empty", "where": "s3://bucket/c", "remedy": "give another", "exit_code": 1}
    event = json.dumps({"event": "step-failed", "time": 1.0, "step": "download", "seconds": 3.0, **fields})
    said = "The corpus is empty (s3://bucket/c): give another."
    assert failure_in(f"first\n{event}\nsome library said goodbye\n") == said
    assert failure_in(f'{event}\n{{"event": "note", "text": "x"}}\n{LAUNCHER}\n') == said


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (f"loading\nKilled\n{LAUNCHER}", "its process ended with exit status 1"),
        (LAUNCHER.replace("status 1", "status 137"), "its process was killed (exit status 137), which usually means"),
        (
            LAUNCHER.replace("exit status 1", "signal: killed"),
            "its process was killed (signal: killed), which usually means",
        ),
        ("step 1 loss 9.1\nstep 2 loss 8.7\n", None),
        ("", None),
    ],
)
def test_a_log_that_says_less(log, said):
    found = failure_in(log)
    assert found is None if said is None else found.startswith(said)


def test_the_last_attempt_counts():
    log = f"{LOSS}\n{LAUNCHER}\n{LOSS.replace('7.8', '9.9')}\n{LAUNCHER}\n"
    assert failure_in(log).startswith("The loss is 9.9")
