"""Events are read back from a pipe that merges them with other output."""

import json
import math
import threading

import numpy
import pytest

from components.shared.base.events import emit, notes_on_stderr, parse


def test_an_event_comes_back_as_it_was(capsys):
    emit("train-step", step=3, loss=4.25, text='a "quoted"\nline  ')
    (line,) = capsys.readouterr().out.split("\n")[:-1]
    event = parse(line)
    assert event.pop("time") > 1e9
    assert event == {"event": "train-step", "step": 3, "loss": 4.25, "text": 'a "quoted"\nline  '}


def test_an_event_is_recognised_among_other_output_even_if_it_is_indented(capsys):
    emit("note", text="x")
    line = capsys.readouterr().out
    assert parse("    " + line)["text"] == "x"
    for other in ("", "epoch 1", '{"loss": 1}', line[:20], f"log: {line}"):
        assert parse(other) is None


def test_numbers_of_numpy_stay_numbers_and_paths_become_text(capsys, tmp_path):
    emit("x", loss=numpy.float32(0.5), count=numpy.int64(7), path=tmp_path)
    event = parse(capsys.readouterr().out)
    assert (event["loss"], event["count"], event["path"]) == (0.5, 7, str(tmp_path))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_can_be_emitted(capsys, value):
    emit("x", loss=value)
    assert repr(parse(capsys.readouterr().out)["loss"]) == repr(value)


def test_threads_do_not_mix_their_lines(capsys):
    def talk():
        for _ in range(50):
            emit("x", pad="p" * 500)

    threads = [threading.Thread(target=talk) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 200
    assert all(len(json.loads(line)["pad"]) == 500 for line in lines)


def test_a_command_prints_notes_as_sentences_and_nothing_else(capsys):
    with notes_on_stderr():
        emit("reused", what="corpus")
        emit("note", text="Nothing vouches for it")
    assert capsys.readouterr() == ("", "Nothing vouches for it\n")


def test_notes_are_printed_even_if_the_work_failed(capsys):
    with pytest.raises(ZeroDivisionError), notes_on_stderr():
        emit("note", text="The Hub is slow")
        raise ZeroDivisionError
    assert capsys.readouterr().err == "The Hub is slow\n"
