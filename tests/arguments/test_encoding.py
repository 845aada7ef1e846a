"""Arguments and variables that are not text in the encoding of the process give one sentence without a secret."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from components.shared.base.failure import ExitCode
from tests.pipelines.conftest import Command

LATIN = b"caf\xe9".decode(errors="surrogateescape")


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--corpus", LATIN),
        ("run", "--set", f"download.corpus={LATIN}"),
        ("run", "--profile", f"{LATIN}.yaml"),
        ("models", "--home", f"/tmp/{LATIN}"),
        ("models", "--model", LATIN),
        ("generate", LATIN),
        ("promote", "1", "--reason", LATIN),
        ("compile", "--output", LATIN),
        ("schedule", "apply", "--from", LATIN),
        ("status", LATIN),
        (f"--{LATIN}",),
    ],
)
def test_an_argument_that_is_not_utf_8(command: Command, arguments):
    code, out, err = command(*arguments)
    assert (code, out) == (ExitCode.USAGE, "")
    assert err.startswith("wikigpt: An argument is not UTF-8: ")
    assert "caf\\\\xe9" in err


@pytest.mark.parametrize("name", ["WIKIGPT_CORPUS", "WIKIGPT_HOME", "MLFLOW_TRACKING_URI", "AWS_REGION", "HOME"])
def test_a_variable_that_is_not_utf_8(command: Command, monkeypatch, name):
    monkeypatch.setattr(os, "environ", {**os.environ, name: f"s3cret{LATIN}"})
    code, _, err = command("models")
    assert (code, err) == (
        ExitCode.USAGE,
        f"wikigpt: The variable {name} is not UTF-8 (the environment): set it to text in UTF-8, or unset it.\n",
    )


def test_a_variable_of_others_may_be_anything(command: Command, monkeypatch):
    monkeypatch.setattr(os, "environ", {**os.environ, "SOMETHING_ELSE": LATIN})
    assert command("--help")[0] == 0


def test_the_process_itself_says_it_in_bytes():
    """The kernel passes bytes, which a test inside Python can only imitate."""
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "run", "--corpus", b"caf\xe9"],
        capture_output=True,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.startswith(b"wikigpt: An argument is not UTF-8: 'caf\\\\xe9'")
