"""Two processes on one machine train like one process with the whole batch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from textwrap import dedent, indent

import pytest

from components.shared.base.failure import ExitCode, Failure, Interrupted
from components.shared.runtime.step import Step
from components.shared.storage.files import file_fact
from components.shared.storage.manifest import read_manifest
from components.train.run import run
from tests.components.train.conftest import losses_of, tiny_step

pytestmark = pytest.mark.slow
FINGERPRINT = "f" * 32


@pytest.fixture(autouse=True)
def without_mlflow(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")


def workers_of(pid: int) -> list[int]:
    """The processes that train, which are grandchildren of the step."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    children = {int(own) for own, parent, _ in rows if int(parent) == pid}
    return [int(own) for own, parent, args in rows if int(parent) in children and "components.train.worker" in args]


def when_there_are_checkpoints(step: Step, count: int, act) -> threading.Thread:
    def wait() -> None:
        while len(step.store.names("checkpoint")) < count:
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def in_workers(here: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Makes every worker run some code before it begins."""
    (here / "sitecustomize.py").write_text("import os\nif 'RANK' in os.environ:\n" + indent(dedent(code), "    "))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(here), *filter(None, sys.path)]))


def program_of(values: dict, tokens_dir: Path, model_dir: Path) -> str:
    """A step in a separate process."""
    return (
        "from pathlib import Path; from components.train.run import run;"
        "from tests.components.train.conftest import tiny_step;"
        f"run(tiny_step(**{values!r}), '{FINGERPRINT}', Path({str(tokens_dir)!r}), Path({str(model_dir)!r}))"
    )


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"optimizer": "muon", "gradient_accumulation_steps": 2, "ema_decay": 0.9},
        {"gradient_accumulation_steps": 2, "sampled_softmax": 128},
    ],
)
def test_the_curve_is_that_of_one_process(here: Path, tokens_dir: Path, values: dict) -> None:
    run(tiny_step(**values), "a" * 32, tokens_dir, here / "one")
    run(tiny_step(processes=2, threads=2, **values), FINGERPRINT, tokens_dir, here / "two")
    assert losses_of(here / "two") == pytest.approx(losses_of(here / "one"), rel=1e-4)
    facts = read_manifest(here / "two", "model").metadata
    assert facts["numerics"]["processes"] == 2
    assert facts["tokens_seen"] == read_manifest(here / "one", "model").metadata["tokens_seen"]


def test_sigterm_stops_both_at_a_step_and_they_go_on_exactly(here: Path, tokens_dir: Path) -> None:
    values = {"processes": 2, "threads": 2, "steps": 40, "dropout": 0.1}
    run(tiny_step(**values), "a" * 32, tokens_dir, here / "untouched")
    step = tiny_step(every=1, **values)
    others = set(step.store.names("checkpoint"))
    thread = when_there_are_checkpoints(step, len(others) + 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted, match="of 40"):
        run(step, FINGERPRINT, tokens_dir, here / "model")
    thread.join()
    assert not workers_of(os.getpid())
    run(step, FINGERPRINT, tokens_dir, here / "model")
    assert losses_of(here / "model") == losses_of(here / "untouched")


def test_all_processes_save_checkpoints_by_time_at_the_same_step(here: Path, tokens_dir: Path) -> None:
    """The clock of rank 0 decides: with their own clocks, the processes would wait for each other forever."""
    values = {"processes": 2, "threads": 2, "steps": 40, "dropout": 0.1, "every": None, "log_every": 7}
    run(tiny_step(**values), "a" * 32, tokens_dir, here / "untouched")
    assert not tiny_step().store.names("checkpoint")
    step = tiny_step("run-2", every_seconds=0.01, **values)
    thread = when_there_are_checkpoints(step, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted, match="the last checkpoint is of step") as caught:
        run(step, FINGERPRINT, tokens_dir, here / "model")
    thread.join()
    assert f"of step {int(step.store.names('checkpoint')[-1][-8:])}" in caught.value.what
    run(step, FINGERPRINT, tokens_dir, here / "model")
    assert losses_of(here / "model") == losses_of(here / "untouched")
    assert file_fact(here / "model" / "model.safetensors") == file_fact(here / "untouched" / "model.safetensors")


def test_sigterm_waits_for_its_checkpoint(here: Path, tokens_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process may end while rank 0 still writes, because the launcher then ends all processes."""
    in_workers(
        here,
        monkeypatch,
        """
        import time
        from components.train import checkpoint_manager, worker
        worker._EXIT_TIMEOUT = 0
        write = checkpoint_manager.write_state
        checkpoint_manager.write_state = lambda *args: (time.sleep(2), write(*args))
        """,
    )
    values = {"every": None, "processes": 2, "threads": 2, "steps": 4000}
    process = subprocess.Popen(
        [sys.executable, "-c", program_of(values, tokens_dir, here / "model")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stderr
    for line in process.stdout:
        if '"done": 4,' in line:
            break
    process.send_signal(signal.SIGTERM)
    said = process.stderr.read()
    process.wait()
    (name,) = tiny_step().store.names("checkpoint")
    assert f"Training was interrupted after step {int(name[-8:])} of 4000" in said


def test_an_unexpected_error_in_a_worker_is_not_an_interruption(
    here: Path, tokens_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = tiny_step(processes=2, threads=2, steps=4000)
    in_workers(
        here,
        monkeypatch,
        """
        from components.train import loop
        def broken(*args):
            if os.environ["RANK"] == "1":
                raise KeyError("nobody thought of this")
            return 0.0
        loop.set_learning_rate = broken
        """,
    )
    with pytest.raises(Failure, match="KeyError: 'nobody thought of this'") as caught:
        run(step, FINGERPRINT, tokens_dir, here / "model")
    assert caught.value.exit_code == ExitCode.FAILED


def test_a_worker_that_dies_ends_the_step_at_once_and_resumably(here: Path, tokens_dir: Path) -> None:
    step = tiny_step(every=1, processes=2, threads=2, steps=4000)
    killed: list[float] = []

    def kill_one() -> None:
        os.kill(workers_of(os.getpid())[1], signal.SIGKILL)
        killed.append(time.monotonic())

    thread = when_there_are_checkpoints(step, 1, kill_one)
    with pytest.raises(Failure, match="A process of the training died") as caught:
        run(step, FINGERPRINT, tokens_dir, here / "model")
    thread.join()
    assert time.monotonic() - killed[0] < 15
    assert caught.value.exit_code == ExitCode.RESUMABLE
    assert not workers_of(os.getpid())
    assert step.store.names("checkpoint")


def test_no_worker_outlives_the_step(here: Path, tokens_dir: Path) -> None:
    step = tiny_step(every=1, processes=2, threads=2, steps=100_000)
    values = {"every": 1, "processes": 2, "threads": 2, "steps": 100_000}
    process = subprocess.Popen([sys.executable, "-c", program_of(values, tokens_dir, here / "model")])
    while not step.store.names("checkpoint"):
        time.sleep(0.05)
        assert process.poll() is None
    workers = workers_of(process.pid)
    assert len(workers) == 2
    process.kill()
    process.wait()
    end = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < end:
        time.sleep(0.1)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_a_failure_of_a_worker_is_that_of_the_step(
    here: Path, tokens_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_workers(
        here,
        monkeypatch,
        """
        from components.train import loop
        set_learning_rate = loop.set_learning_rate
        loop.set_learning_rate = lambda optimizers, share: set_learning_rate(optimizers, 1e38)
        """,
    )
    step = tiny_step(processes=2, threads=2, optimizer="adamw", gradient_clip=None, log_every=1)
    with pytest.raises(Failure, match=r"The loss is \S+ in step 2 ") as caught:
        run(step, FINGERPRINT, tokens_dir, here / "model")
    assert "of the train split" in caught.value.where
