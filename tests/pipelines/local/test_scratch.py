"""The folder for temporary files of a run, when commands end, are killed, or start at the same time."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipelines.local.scratch import scratch_folder

_KILLED = """
import os, signal
from pipelines.local.scratch import scratch_folder
with scratch_folder() as scratch:
    (scratch.folder / "checkpoint").write_text("weights")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_the_folder_goes_with_its_content(temporary: Path) -> None:
    with scratch_folder() as scratch:
        assert scratch.variables == {"TMPDIR": str(scratch.folder)}
        (scratch.folder / "checkpoint").mkdir()
    assert list(temporary.iterdir()) == []


def test_the_folder_of_a_killed_command_goes_with_the_next_one(temporary: Path) -> None:
    subprocess.run([sys.executable, "-c", _KILLED])
    assert [path.name for path in temporary.glob("*/*")] == ["checkpoint"]
    with scratch_folder() as scratch:
        assert list(temporary.iterdir()) == [scratch.folder]


def test_a_folder_in_use_is_left_alone(temporary: Path) -> None:
    with scratch_folder() as first, scratch_folder() as second:
        assert {first.folder, second.folder} == set(temporary.iterdir())


def test_a_folder_is_in_use_while_a_process_of_its_run_lives(temporary: Path) -> None:
    with scratch_folder() as first:
        step = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[first.lock])
        first.folder.rename(temporary / "wikigpt-run-kept")  # as if its command had been killed
    with scratch_folder():
        assert (temporary / "wikigpt-run-kept").is_dir()
    step.communicate(b"\n")
    with scratch_folder():
        assert not (temporary / "wikigpt-run-kept").exists()


def test_what_is_not_ours_is_left_alone(temporary: Path) -> None:
    (temporary / "wikigpt-run-file").write_text("a file")
    (temporary / "target").mkdir()
    (temporary / "wikigpt-run-link").symlink_to("target")
    with scratch_folder():
        pass
    assert sorted(path.name for path in temporary.iterdir()) == ["target", "wikigpt-run-file", "wikigpt-run-link"]
