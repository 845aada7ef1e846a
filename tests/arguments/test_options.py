"""Every number that the command line takes has its range, checked before the command begins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest
import typer

from components.shared.base.failure import ExitCode
from pipelines.cli.app import app
from tests.pipelines.conftest import Command

VALUES = ["-1", "1e400", "-1e400", "nan", "inf", "-inf", "9" * 5000, "0x10", "abc", "", "²"]


def numbers(command: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Path of the command and parameter, for each that is a number."""
    command = command or typer.main.get_command(app)
    for name, inner in getattr(command, "commands", {}).items():
        yield from numbers(inner, (*path, name))
    hints = get_type_hints(command.callback) if command.callback else {}
    for parameter in command.params:
        hint = hints.get(parameter.name)
        if {int, float} & {hint, *get_args(hint)}:
            yield path, parameter


NUMBERS = list(numbers())
NAMES = [" ".join([*path, parameter.opts[0]]) for path, parameter in NUMBERS]


def test_the_numbers_of_the_command_line():
    assert {"generate --seed", "generate --temperature", "generate --tokens", "generate --top-k", "ui --port"} < set(
        NAMES
    )
    assert {"gc --days", "submit --timeout", "cancel --timeout", "schedule trigger --timeout"} < set(NAMES)


@pytest.mark.parametrize(("path", "parameter"), NUMBERS, ids=NAMES)
def test_a_number_out_of_range_is_one_sentence_with_the_nearest(command: Command, path, parameter):
    option = parameter.opts[0]
    for value in ("-1000000000", "1" + "0" * 30):
        code, out, err = command(*path, f"{option}={value}", *["x"] * 3)
        said = " ".join(err.replace("│", " ").split())
        assert (code, out) == (ExitCode.USAGE, "")
        assert f"Invalid value for '{option}': must be" in said
        assert "; the nearest is" in said


@pytest.mark.parametrize(("path", "parameter"), NUMBERS, ids=NAMES)
def test_nothing_that_is_no_number_of_the_range_gets_to_the_command(command: Command, path, parameter):
    for value in VALUES:
        code, _, err = command(*path, f"{parameter.opts[0]}={value}", *["x"] * 3)
        assert (code, f"Invalid value for '{parameter.opts[0]}'" in err) == (ExitCode.USAGE, True), (value, err)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("ui", "--port", "0"), "must be from 1 to 65535, got 0; the nearest is 1"),
        (("ui", "--port", "65536"), "must be from 1 to 65535, got 65536; the nearest is 65535"),
        (("generate", "--seed", "18446744073709551616", "x"), "the nearest is 18446744073709551615"),
        (("generate", "--temperature", "1e-40", "x"), "must be 0 or from 0.01 to 100, got 1e-40; the nearest is 0"),
        (("generate", "--temperature", "0.009", "x"), "the nearest is 0.01"),
        (("generate", "--temperature", "nan", "x"), "must be 0 or from 0.01 to 100, got nan"),
        (("gc", "--days", "inf"), "must be from 0 to 36500, got inf; the nearest is 36500"),
    ],
)
def test_the_nearest_of_some(command: Command, arguments, sentence):
    code, _, err = command(*arguments)
    assert code == ExitCode.USAGE
    assert sentence in " ".join(err.replace("│", " ").split())
