"""A failure has a problem, a place and a remedy, and is passed between processes."""

import json
import pickle

import pytest

from components.shared.base.failure import ExitCode, Failure, Interrupted, first_line


def test_a_failure_reads_as_one_sentence():
    failure = Failure("The vocabulary has 3 entries", where="tokenize.vocab_size", remedy="give at least 257")
    assert str(failure) == "The vocabulary has 3 entries (tokenize.vocab_size): give at least 257."
    assert failure.exit_code == ExitCode.FAILED == 1


@pytest.mark.parametrize("carry", [lambda d: d, lambda d: json.loads(json.dumps(d))], ids=["plain", "json"])
def test_a_failure_is_converted_to_plain_values_and_back(carry):
    failure = Failure("No answer", where="http://mlflow", remedy="start it", exit_code=ExitCode.UNREACHABLE)
    again = Failure.from_dict(carry(failure.to_dict()))
    assert str(again) == str(failure)
    assert again.exit_code is ExitCode.UNREACHABLE


def test_a_failure_is_pickled():
    failure = Failure("No answer", where="http://mlflow", remedy="start it", exit_code=ExitCode.UNREACHABLE)
    again = pickle.loads(pickle.dumps(failure))
    assert str(again) == str(failure)
    assert again.exit_code is ExitCode.UNREACHABLE


def test_an_interruption_can_be_resumed():
    interrupted = Interrupted("Stopped at step 40", where="train")
    assert interrupted.exit_code == 75
    assert "start the same run again" in str(interrupted)
    again = pickle.loads(pickle.dumps(interrupted))
    assert type(again) is Interrupted
    assert again.to_dict() == interrupted.to_dict()


def test_an_invalid_exit_code_is_refused():
    with pytest.raises(ValueError, match="99"):
        Failure("x", where="y", remedy="z", exit_code=99)


@pytest.mark.parametrize(
    ("message", "line"),
    [(ValueError("\n one\ntwo"), "one"), (OSError(), "no message"), (KeyError(""), "''"), ("  \n ", "no message")],
)
def test_the_first_line_of_a_message_is_never_missing(message, line):
    assert first_line(message) == line


def test_an_empty_message_is_replaced_by_what_the_caller_knows():
    assert first_line(MemoryError(), "no more is free") == "no more is free"
