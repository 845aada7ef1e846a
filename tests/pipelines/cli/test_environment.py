"""`wikigpt check`, `doctor` and `ui`: what they examine, and that their exit codes agree with their output."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from components.shared.base.failure import ExitCode
from pipelines.local import doctor
from pipelines.local.doctor import Finding
from pipelines.local.home import open_home
from pipelines.local.runners import stop_containers
from tests.pipelines.conftest import Command


@pytest.fixture(scope="module")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for all, because a check measures the precisions of the machine only once in a home."""
    return open_home(tmp_path_factory.mktemp("checked") / "home").root


@pytest.fixture
def home(_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return _home


@pytest.mark.slow
def test_what_is_missing_and_not_needed_does_not_fail_a_check(
    command: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    arguments = ("check", "--corpus", "sample", "--home", home, "--json", "--set")
    code, out, _ = command(*arguments, "train.compile=false")
    assert (code, json.loads(out)["ok"]) == (0, True)
    code, out, _ = command(*arguments, "train.compile=true")
    assert (code, json.loads(out)["ok"]) == (ExitCode.FAILED, False)


@pytest.mark.parametrize("step", ["train", pytest.param("evaluate", marks=pytest.mark.slow)])
def test_a_gpu_that_is_asked_for_is_looked_for_before_anything_runs(
    command: Command, home: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(doctor.machine, "gpus", lambda: 0)
    code, out, _ = command("check", "--corpus", "sample", "--home", home, "--json", "--set", f"{step}.device=cuda")
    (gpu,) = (finding for finding in json.loads(out)["findings"] if finding["name"] == "GPU")
    assert (code != 0, gpu["ok"]) == (True, False)


def test_the_doctor_returns_what_failed(command: Command, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    away = Finding("Store", False, "no answer", "every run", exit_code=ExitCode.UNREACHABLE)
    monkeypatch.setattr(doctor, "store", lambda address: away)
    monkeypatch.setattr(doctor, "hub", lambda: Finding("Hugging Face Hub", True, "there"))
    code, out, _ = command("doctor", "--home", home, "--json")
    assert (code, json.loads(out)["ok"]) == (ExitCode.UNREACHABLE, False)


def test_a_store_that_can_be_written_and_not_read_is_found_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from components.shared.storage.local import LocalObjects

    def refused(self: LocalObjects, key: str) -> bytes:
        raise PermissionError(13, "Permission denied", key)

    assert doctor.store(str(tmp_path / "store")).ok
    monkeypatch.setattr(LocalObjects, "get", refused)
    assert not doctor.store(str(tmp_path / "store")).ok


def served(command: Command, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> list[str]:
    """The arguments of the server that `wikigpt ui` starts, and the address of its database."""

    class BecameServer(Exception):
        pass

    def become(program: str, arguments: list[str], environment: dict[str, str]) -> None:
        raise BecameServer([*arguments, environment["MLFLOW_BACKEND_STORE_URI"]])

    monkeypatch.setattr(os, "execve", become)
    with pytest.raises(BecameServer) as caught:
        command("ui", *arguments)
    return caught.value.args[0]


def test_the_ui_shows_the_database_that_runs_write_to(
    command: Command, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"sqlite:///{home}/mlflow.db" in served(command, monkeypatch, "--home", home)
    other = f"sqlite:///{tmp_path}/other.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    assert other in served(command, monkeypatch, "--home", home)


def test_the_ui_of_a_server_is_where_the_server_is(
    command: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:hunter2@mlflow.example")
    assert command("ui", "--home", home) == (0, "", "MLflow is at https://[redacted]@mlflow.example\n")


def test_a_port_that_is_taken_is_said_before_mlflow_starts(command: Command, home: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, _, err = command("ui", "--home", home, "--port", port)
    assert (code, f"MLflow cannot listen on port {port}: Address already in use" in err) == (ExitCode.USAGE, True)


@pytest.mark.slow
def test_without_docker_the_runner_fails_before_there_is_a_run(
    command: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    code, _, err = command("run", "--corpus", "sample", "--home", home, "--runner", "docker")
    assert (code, err) == (
        ExitCode.UNREACHABLE,
        "wikigpt: Docker does not answer (tcp://127.0.0.1:9): start it, name it by DOCKER_HOST, or leave out --runner"
        " docker.\n",
    )
    assert not (home / "runs").exists()
    stop_containers("a-run-that-had-none")


def test_a_check_refuses_what_the_run_would(command: Command, home: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for split in ("train", "valid", "test"):
        (corpus / f"wiki.{split}.tokens").write_text(" = Title = \n \n words \n")
    code, out, _ = command("check", "--corpus", corpus, "--home", home, "--json")
    (seen,) = (finding["seen"] for finding in json.loads(out)["findings"] if finding["name"] == "Corpus")
    assert (code, "wikitext-2-v1 has 10,797,148" in seen) == (ExitCode.FAILED, True)


def test_pretrained_parts_are_looked_for(
    command: Command, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.safetensors").write_bytes(b"weights")

    def look(*overrides: str) -> tuple[int, dict[str, bool]]:
        sets = [each for override in overrides for each in ("--set", override)]
        code, out, _ = command(
            "check", "--corpus", "sample", "--home", home, "--json", "--set", "train.compile=false", *sets
        )
        return code, {finding["name"]: finding["ok"] for finding in json.loads(out)["findings"]}

    code, found = look(f"train.pretrained={tmp_path}/weights", "train.sampled_softmax=null")
    assert (code, found["Pretrained weights"]) == (0, True)
    (tmp_path / "weights" / "config.json").write_text('{"n_positions": 64}')
    fitting = (f"train.pretrained={tmp_path}/weights", "train.sampled_softmax=null", "evaluate.window=64")
    assert look(*fitting)[1]["Window"] is True
    code, found = look(*fitting[:2], "evaluate.window=65")
    assert (code, found["Window"]) == (ExitCode.USAGE, False)
    code, found = look("tokenize.tokenizer=gpt2", f"train.pretrained={tmp_path}/none")
    assert (code, found["Pretrained tokenizer"], found["Pretrained weights"]) == (ExitCode.UNREACHABLE, False, False)


def test_a_home_may_begin_with_a_tilde(command: Command, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home.parent))
    assert f"sqlite:///{home}/mlflow.db" in served(command, monkeypatch, "--home=~/home")


def test_a_folder_without_runs_is_no_home(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code, _, err = command("ui", "--home", tmp_path)
    assert (code, "Nothing has been run here yet" in err) == (ExitCode.USAGE, True)
