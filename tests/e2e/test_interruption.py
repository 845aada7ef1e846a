"""A run is ended during its training, in every way; no process is left, and the next run resumes."""

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from components.shared.base.events import parse
from tests.e2e.conftest import TINY, start, wikigpt

pytestmark = pytest.mark.slow

# Long enough for a signal during the training, and for the start of the second run meanwhile.
LONG, LONGER = 1500, 4000
SHORT = 60.0


def arguments(home: Path, steps: int = LONG) -> list[object]:
    settings = (f"train.steps={steps}", "checkpoints.every=20", f"train.evaluate_every={steps}")
    return ["run", "--profile", TINY, "--home", home, *(each for setting in settings for each in ("--set", setting))]


def wait_for_training(home: Path, beyond: int = 40) -> Path:
    """The folder of the run, after some steps of its training."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        for log in home.glob("runs/*/log.txt"):
            events = filter(None, map(parse, log.read_text(errors="replace").splitlines()))
            if any(
                event["event"] == "progress" and event["step"] == "train" and event["done"] > beyond for event in events
            ):
                return log.parent
        time.sleep(0.2)
    raise AssertionError(
        "training did not begin: " + "".join(p.read_text()[-3000:] for p in home.glob("runs/*/log.txt"))
    )


def of_the_run(folder: Path) -> list[psutil.Process]:
    """Processes of a run, found by the variable that each of them has."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("WIKIGPT_RUN") == folder.name and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def gone(folder: Path, within: float) -> bool:
    until = time.monotonic() + within
    while time.monotonic() < until:
        if not of_the_run(folder):
            return True
        time.sleep(0.2)
    return False


def run_status(home: Path, run: str) -> str:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "wikigpt"]
    (found,) = client.search_runs([experiment.experiment_id], f"tags.`wikigpt.pipeline_run` = '{run}'")
    return found.info.status


def end(command: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
    command.send_signal(number)
    _, stderr = command.communicate(timeout=90)
    return command.returncode, stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_saves_marks_and_leaves_nothing(tmp_path, number, code):
    home = tmp_path / "home"
    command = start(*arguments(home))
    folder = wait_for_training(home)
    returncode, stderr = end(command, number)
    assert returncode == code, stderr
    assert gone(folder, within=1)
    assert run_status(home, folder.name) == "KILLED"

    resumed = wikigpt(*arguments(home), "--json", "--set", "notify.timeout=4").document
    assert resumed["reason"].count("checkpoint")
    assert resumed["status"] == "trained"


def test_sigkill_of_the_command_leaves_no_orphan(tmp_path):
    home = tmp_path / "home"
    command = start(*arguments(home))
    folder = wait_for_training(home)
    command.kill()
    command.communicate()
    assert gone(folder, within=SHORT)
    assert run_status(home, folder.name) == "KILLED"


def test_sigkill_of_everything_is_swept_by_the_next_run(tmp_path, monkeypatch):
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    command = start(*arguments(home))
    folder = wait_for_training(home)
    for process in of_the_run(folder):
        os.kill(process.pid, signal.SIGKILL)
    command.kill()
    command.communicate()
    assert gone(folder, within=5)
    assert run_status(home, folder.name) == "RUNNING"
    (abandoned,) = temporary.glob("wikigpt-run-*")
    assert any(abandoned.iterdir())

    resumed = wikigpt(*arguments(home), "--json").document
    assert resumed["status"] == "trained"
    assert "checkpoint" in resumed["reason"]
    assert run_status(home, folder.name) == "KILLED"
    assert list(temporary.iterdir()) == []


def test_two_runs_of_one_reuse_key_at_once(tmp_path):
    home = tmp_path / "home"
    command = start(*arguments(home, LONGER))
    folder = wait_for_training(home)
    second = wikigpt(*arguments(home, LONGER))
    assert second.code == 1
    assert f"The run {folder.name} is training exactly this already" in second.stderr
    end(command, signal.SIGINT)


def test_a_step_that_is_killed_says_by_which_signal(tmp_path):
    home = tmp_path / "home"
    command = start(*arguments(home))
    folder = wait_for_training(home)
    steps = [process for process in of_the_run(folder) if "pipelines.local.fork_server" in process.cmdline()]
    (child,) = [process for process in steps if process.pid not in {other.ppid() for other in steps}]
    child.send_signal(signal.SIGKILL)
    _, stderr = command.communicate(timeout=120)
    assert command.returncode == 1
    assert "The process of the step was ended by SIGKILL (step train)" in stderr
    assert run_status(home, folder.name) == "FAILED"
