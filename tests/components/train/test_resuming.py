"""A training that was stopped, killed or damaged has the same losses and weights as an uninterrupted one."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from components.shared.base.failure import ExitCode, Failure, Interrupted
from components.shared.reuse.trained import fetch_model, fetch_result, training_results, weights_digest
from components.shared.reuse.training_lock import training_lock, trainings
from components.shared.runtime.liveness import heartbeat
from components.shared.runtime.step import Step
from components.shared.storage.files import file_fact
from components.shared.storage.manifest import read_manifest
from components.shared.storage.store import open_store
from components.train.reporter import MetricsReporter
from components.train.run import run
from tests.components.train.conftest import losses_of, make_tokens, tiny_step
from tests.components.train.killing import train_in_process

FINGERPRINT = "f" * 32
# Everything with a state: Muon and AdamW, the average of the weights, dropout, an odd logging interval.
RICH = {"optimizer": "muon", "ema_decay": 0.9, "dropout": 0.1, "embedding_dropout": 0.1, "log_every": 3, "steps": 9}
RICH |= {"init": "bigram", "tied_embeddings": False, "sampled_softmax": 128}


@pytest.fixture(autouse=True)
def without_mlflow(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing answers at that address, and training works without it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")


@pytest.fixture(scope="module")
def untouched(tokens_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("untouched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WIKIGPT_STORE", str(folder / "store"))
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        run(tiny_step(**RICH), FINGERPRINT, tokens_dir, folder / "model")
    return folder / "model"


def assert_same(model: Path, other: Path) -> None:
    assert losses_of(model) == losses_of(other)
    assert file_fact(model / "model.safetensors") == file_fact(other / "model.safetensors")


def stop_after_checkpoints(step: Step, count: int) -> threading.Thread:
    """Sends SIGTERM to this process when this number of checkpoints exists."""

    def wait_and_stop() -> None:
        while len(step.store.names("checkpoint")) < count:
            time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=wait_and_stop)
    thread.start()
    return thread


def interrupt(step: Step, tokens_dir: Path, model_dir: Path, checkpoints: int = 2) -> Interrupted:
    thread = stop_after_checkpoints(step, checkpoints)
    with pytest.raises(Interrupted) as caught:
        run(step, FINGERPRINT, tokens_dir, model_dir)
    thread.join()
    return caught.value


def test_sigterm_saves_the_state_and_another_run_resumes(here: Path, tokens_dir: Path, untouched: Path) -> None:
    step = tiny_step(every=1, **RICH)
    before = signal.getsignal(signal.SIGTERM)
    stopped = interrupt(step, tokens_dir, here / "model")
    assert stopped.exit_code == ExitCode.RESUMABLE == 75
    assert signal.getsignal(signal.SIGTERM) == before
    assert not (here / "model" / "manifest.json").exists()
    assert list(trainings(step.store)) == []
    names = step.store.names("checkpoint")
    assert len(names) == 2, "the last two are kept"
    step_reached = int(names[-1][-8:])
    assert stopped.what == (
        f"Training was interrupted after step {step_reached} of 9; the last checkpoint is of step {step_reached}"
    )
    run(tiny_step("run-2", every=1, **RICH), FINGERPRINT, tokens_dir, here / "model")
    assert_same(here / "model", untouched)


def sigterm_at_step_3(step: Step, tokens_dir: Path, model_dir: Path, fingerprint: str = FINGERPRINT) -> Interrupted:
    """The signal arrives when the row of step 3 is observed, and is handled at the end of step 4."""
    observe = MetricsReporter.observe

    def observe_and_stop(record: MetricsReporter, row: dict, steps: int) -> None:
        observe(record, row, steps)
        if row["step"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted) as caught:
        patch.setattr(MetricsReporter, "observe", observe_and_stop)
        run(step, fingerprint, tokens_dir, model_dir)
    return caught.value


def test_sigterm_saves_a_checkpoint_without_an_interval(here: Path, tokens_dir: Path, untouched: Path) -> None:
    """Training stops at the end of the step in which the signal arrives, between two log points."""
    step = tiny_step(every=None, **RICH)
    stopped = sigterm_at_step_3(step, tokens_dir, here / "model")
    assert stopped.what == "Training was interrupted after step 4 of 9; the last checkpoint is of step 4"
    assert step.store.names("checkpoint") == [f"{FINGERPRINT}/00000004"]
    run(step, FINGERPRINT, tokens_dir, here / "model")
    assert_same(here / "model", untouched)


def test_checkpoints_by_time_change_nothing_and_are_resumed_from(here: Path, tokens_dir: Path, untouched: Path) -> None:
    """The interval is so short that a checkpoint is due whenever none is being published."""
    values = {"every": None, "every_seconds": 1e-3, **RICH}
    run(tiny_step(**values), FINGERPRINT, tokens_dir, here / "model")
    assert_same(here / "model", untouched)
    assert tiny_step().store.names("checkpoint"), "also without an interruption"
    other = "d" * 32
    stopped = sigterm_at_step_3(tiny_step("run-2", **values), tokens_dir, here / "again", other)
    assert "the last checkpoint is of step 4" in stopped.what
    assert tiny_step().store.names("checkpoint", other)[-1] == f"{other}/00000004"
    run(tiny_step("run-3", **values), other, tokens_dir, here / "again")
    assert_same(here / "again", untouched)


def test_a_run_that_resumed_says_so_when_it_cannot_save_again(
    here: Path, tokens_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last checkpoint is then the one from which it resumed."""
    step = tiny_step(every=None, **RICH)
    sigterm_at_step_3(step, tokens_dir, here / "model")

    def full(*_: object) -> None:
        raise Failure("Could not write: No space left on device", where="/tmp", remedy="free some space")

    monkeypatch.setattr("components.train.checkpoint_manager.write_state", full)
    monkeypatch.setattr("components.train.run.stop_on_sigterm", lambda: nullcontext(lambda: True))
    with pytest.raises(Failure, match="No space left on device; the last checkpoint is of step 4"):
        run(tiny_step("run-2", every=None, **RICH), FINGERPRINT, tokens_dir, here / "model")


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    here: Path, tokens_dir: Path, untouched: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step = tiny_step(every=1, **RICH)
    interrupt(step, tokens_dir, here / "model")
    older, newest = step.store.names("checkpoint")
    manifest = step.store.find("checkpoint", newest)
    assert manifest
    digest = manifest.files["weights.safetensors"].sha256
    blob = here / "store" / "blobs" / digest[:2] / digest
    blob.chmod(0o644)
    blob.write_bytes(bytes(byte ^ 1 for byte in blob.read_bytes()))
    capsys.readouterr()
    run(step, FINGERPRINT, tokens_dir, here / "model")
    said = capsys.readouterr().out
    assert f"warning: checkpoint {newest} is damaged" in said
    assert f"Training resumes after step {int(older[-8:])}" in said
    assert_same(here / "model", untouched)


def test_another_configuration_starts_from_scratch_and_names_the_differences(
    here: Path, tokens_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(tiny_step(every=1), tokens_dir, here / "model")
    capsys.readouterr()
    run(tiny_step(every=1, learning_rate=0.02), "e" * 32, tokens_dir, here / "model")
    said = capsys.readouterr().out
    assert "it differs: train.learning_rate: 0.01 then, 0.02 now" in said
    assert "resumes after" not in said
    assert '"done": 1, "total": 8' in said


def test_a_checkpoint_of_another_corpus_is_never_loaded(
    here: Path, tokens_dir: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(tiny_step(every=1), tokens_dir, here / "model")
    capsys.readouterr()
    run(tiny_step(every=1), FINGERPRINT, make_tokens(tmp_path_factory.mktemp("other"), seed=2), here / "model")
    said = capsys.readouterr().out
    assert "is of another training: dataset: " in said
    assert "resumes after" not in said


def test_a_finished_training_is_reused_unless_forced(
    here: Path, tokens_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tiny_step(), FINGERPRINT, tokens_dir, here / "model")
    capsys.readouterr()
    run(tiny_step("run-2"), FINGERPRINT, tokens_dir, here / "again")
    assert '{"event": "reused"' in capsys.readouterr().out
    assert read_manifest(here / "again", "model") == read_manifest(here / "model", "model")
    run(tiny_step("run-3"), FINGERPRINT, tokens_dir, here / "forced", reuse_level="forced")
    said = capsys.readouterr().out
    assert '"done": 1, "total": 8' in said
    assert "resumes after" not in said


def test_a_model_of_another_processor_is_not_reused(
    here: Path, tokens_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = tiny_step(every=None)
    run(step, FINGERPRINT, tokens_dir, here / "model")
    capsys.readouterr()
    monkeypatch.setattr("components.train.device.cpu_model", lambda: "another CPU")
    run(tiny_step("run-2", every=None), FINGERPRINT, tokens_dir, here / "again")
    assert '"done": 1, "total": 8' in capsys.readouterr().out
    run(tiny_step("run-3", every=None), FINGERPRINT, tokens_dir, here / "third")
    assert '{"event": "reused"' in capsys.readouterr().out
    assert len(list(training_results(step.store, FINGERPRINT))) == 2


def test_a_checkpoint_of_another_processor_is_resumed_and_the_result_is_not_reused(
    here: Path, tokens_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both processors contributed to its weights, so neither may reuse them as its own result."""
    step = tiny_step(every=1)
    interrupt(step, tokens_dir, here / "model")
    capsys.readouterr()
    monkeypatch.setattr("components.train.device.cpu_model", lambda: "another CPU")
    run(step, FINGERPRINT, tokens_dir, here / "model")
    assert "not bit-exact, as numerics differ: processor: " in capsys.readouterr().out
    model = read_manifest(here / "model", "model")
    assert model.metadata["numerics_changed"]
    (made,) = training_results(step.store, FINGERPRINT)
    assert made.weights_digest == weights_digest(model)
    assert fetch_result(step.store, FINGERPRINT, model.metadata["numerics"], here / "fetched") is None
    assert fetch_model(step.store, made.weights_digest, here / "fetched") == model
    for name in step.store.names("checkpoint"):
        kept = step.store.peek("checkpoint", name)
        assert kept and kept.metadata["numerics_changed"], "also where it is resumed on this processor once more"


def test_a_forced_training_with_other_weights_leaves_the_model_before_it(
    here: Path, tokens_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another seed under the same reuse key represents a machine whose arithmetic differs."""
    step = tiny_step()
    run(step, FINGERPRINT, tokens_dir, here / "model")
    first = read_manifest(here / "model", "model")
    run(tiny_step("run-2", seed=7), FINGERPRINT, tokens_dir, here / "forced", reuse_level="forced")
    forced = read_manifest(here / "forced", "model")
    assert weights_digest(forced) != weights_digest(first)
    assert step.store.find("model", weights_digest(first)) == first
    assert step.store.find("model", weights_digest(forced)) == forced
    run(tiny_step("run-3"), FINGERPRINT, tokens_dir, here / "third")
    assert read_manifest(here / "third", "model") == forced, "the newest is what a run finds"


def test_one_training_at_a_time(here: Path, tokens_dir: Path) -> None:
    step = tiny_step()
    other = training_lock(step.store, FINGERPRINT).acquire("other")
    with heartbeat(step.store, "other"), pytest.raises(Failure, match="The run other is training exactly this already"):
        run(step, FINGERPRINT, tokens_dir, here / "model")
    other.check()


def test_the_training_of_a_dead_run_is_taken_over(here: Path, tokens_dir: Path) -> None:
    step = tiny_step(steps=2)
    training_lock(step.store, FINGERPRINT).acquire("dead")
    run(step, FINGERPRINT, tokens_dir, here / "model")
    assert list(trainings(step.store)) == []


def test_a_run_that_lost_the_lock_stops_at_its_next_checkpoint(here: Path, tokens_dir: Path) -> None:
    step = tiny_step(every=1, steps=50)

    def take_over() -> None:
        while not step.store.names("checkpoint"):
            time.sleep(0.002)
        training_lock(step.store, FINGERPRINT).acquire("other")

    thread = threading.Thread(target=take_over)
    thread.start()
    with pytest.raises(Failure, match="This run was declared dead, and the run other is training exactly this"):
        run(step, FINGERPRINT, tokens_dir, here / "model")
    thread.join()
    assert list(trainings(step.store)) == [(FINGERPRINT, "other")]
    assert len(step.store.names("checkpoint")) <= 2
    assert step.store.names("model") == []


class Processes:
    """Trainings in processes that were forked from one that has imported everything."""

    def __init__(self, here: Path, tokens_dir: Path, values: dict):
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["components.train.job", "components.train.run", "mlflow", "psutil"])
        self.here, self.tokens_dir, self.values, self.runs = here, tokens_dir, values, 0

    def train(self, die_at_write: int | None = None, die_when: Callable[[], object] | None = None) -> int | None:
        """One more run, which dies before a write or after a wait.

        Returns:
            Its exit code, which is negative if a signal ended it.
        """
        self.runs += 1
        step = Step("train", f"run-{self.runs}", tiny_step(**self.values).settings)
        environment = {name: os.environ[name] for name in ("WIKIGPT_STORE", "MLFLOW_TRACKING_URI")}
        folders = (self.tokens_dir, self.here / "model")
        process = self.context.Process(target=train_in_process, args=(step, folders, environment, die_at_write))
        process.start()
        if die_when:
            die_when()
            process.kill()
        process.join()
        return process.exitcode


@pytest.mark.slow
@pytest.mark.parametrize("checkpoints", [{"every": 1}, {"every": None, "every_seconds": 1e-3}])
def test_death_at_any_write_changes_nothing(
    here: Path, tokens_dir: Path, untouched: Path, checkpoints: dict[str, Any]
) -> None:
    processes = Processes(here, tokens_dir, {**RICH, **checkpoints})
    writes = 0
    while processes.train(die_at_write=(writes := writes + 1)) == -signal.SIGKILL:
        assert processes.runs < 120
    assert writes > 8, "it died in the midst of checkpoints"
    assert_same(here / "model", untouched)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
def test_death_at_any_time_changes_nothing(
    here: Path, tokens_dir: Path, monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    values = {**RICH, "steps": 150, "every": 5, "compile": compiled, "precision": "bfloat16"}
    store, chance = open_store(str(here / "store")), random.Random(7)

    def reached() -> int:
        """The last step with a checkpoint."""
        return max((int(name[-8:]) for name in store.names("checkpoint")), default=0)

    def one_or_two_checkpoints_and_a_moment() -> None:
        goal, patience = reached() + 5 * chance.randint(1, 2), time.monotonic() + 120
        while reached() < goal:
            assert time.monotonic() < patience
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.05))

    killed, died_after = Processes(here, tokens_dir, values), [0]
    for _ in range(4):
        assert killed.train(die_when=one_or_two_checkpoints_and_a_moment) == -signal.SIGKILL
        died_after.append(reached())
    assert died_after == sorted(set(died_after)), "each run went on from where the one before had come"
    assert killed.train() == 0
    monkeypatch.setenv("WIKIGPT_STORE", str(here / "quiet" / "store"))
    assert Processes(here / "quiet", tokens_dir, values).train() == 0
    assert_same(here / "model", here / "quiet" / "model")
