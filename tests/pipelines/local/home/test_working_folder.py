"""Nothing in the working folder is imported, whatever it is called."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.config import process_environment
from pipelines.config.process_environment import child_variables
from pipelines.local import supervisor
from pipelines.local.dag import call_this_python
from pipelines.local.scratch import scratch_folder
from tests.pipelines.local.home.conftest import ROOT, TINY, wikigpt

NAMES = ("tokenizers", "datasets", "random", "json", "kfp", "torch", "mlflow")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder whose files have the names of modules and of our packages; each records its import."""
    folder = tmp_path / "work"
    for package in ("components", "pipelines"):
        (folder / package).mkdir(parents=True)
    told = f"open({str(tmp_path / 'imported')!r}, 'a').write(__name__ + ' ')\n"
    for module in (*NAMES, "components/__init__", "pipelines/__init__"):
        (folder / f"{module}.py").write_text(told)
    return folder


def imported(folder: Path) -> str:
    told = folder.parent / "imported"
    return told.read_text() if told.exists() else ""


@pytest.fixture
def beside(folder: Path) -> Path:
    """The same without the package that `python -m pipelines.cli` itself looks for there."""
    shutil.rmtree(folder / "pipelines")
    return folder


def test_the_command_imports_none(beside: Path) -> None:
    ended = wikigpt("--help", cwd=beside)
    assert (ended.code, imported(beside)) == (0, ""), ended
    assert "Wiki-GPT" in ended.out


def test_the_process_of_a_run_imports_none(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends soon, since its folder holds no plan."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "settings.json").write_text("{}")
    monkeypatch.chdir(folder)
    with scratch_folder() as scratch:
        started = supervisor.start(run, scratch.variables, scratch.lock)
        assert started.process.wait(60) == 1
    assert imported(folder) == ""
    assert f"FileNotFoundError: [Errno 2] No such file or directory: '{run}/plan.json'" in started.log.read_text()


_STEP = "import random, json, components, pipelines, tokenizers; print(components.__file__)"


def test_what_a_step_imports_comes_from_where_our_code_does(folder: Path) -> None:
    command = [sys.executable, "-c", _STEP]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env={**os.environ, **child_variables()}, check=True
    )
    assert Path(done.stdout.strip()) == ROOT / "components" / "__init__.py"
    assert imported(folder) == ""


def test_code_that_is_not_installed_is_found(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clone that is started by `python -m` in its own folder, while another copy is installed."""
    clone = tmp_path / "clone"
    for package in ("components", "pipelines"):
        (clone / package).mkdir(parents=True)
        (clone / package / "__init__.py").write_text("")
    monkeypatch.setattr(process_environment, "_ROOT", clone)
    monkeypatch.setattr(sys, "path", [str(clone), *sys.path])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "/somewhere"]))
    variables = child_variables()
    assert variables["PYTHONPATH"] == f"{clone}{os.pathsep}/somewhere"
    done = subprocess.run(
        [sys.executable, "-c", _STEP], capture_output=True, text=True, cwd=folder, env={**os.environ, **variables}
    )
    assert Path(done.stdout.strip()) == clone / "components" / "__init__.py"
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(clone)])
    assert "PYTHONPATH" not in child_variables(), "an installed copy is found without"


def test_only_the_call_of_the_interpreter_is_rewritten() -> None:
    command = ["sh", "-ec", 'python3 -m kfp.dsl.executor_main --x "$0"', "code: python3", "--executor_input"]
    command.append(json.dumps({"uri": "/home/python3.11/it"}))
    assert call_this_python(command, "/my folder/python") == [
        "sh",
        "-ec",
        "'/my folder/python' -m kfp.dsl.executor_main --x \"$0\"",
        *command[3:],
    ]


def test_kfp_calls_the_function_that_is_replaced() -> None:
    from kfp.local import subprocess_task_handler

    names = subprocess_task_handler.SubprocessTaskHandler.run.__code__.co_names
    assert "replace_python_executable" in names


@pytest.mark.slow
def test_a_run_in_such_a_folder_without_a_user_and_without_tmpdir(beside: Path, tmp_path: Path) -> None:
    prefix = ("unshare", "-U", "--map-user=12345")
    if subprocess.run([*prefix, "true"], capture_output=True).returncode:
        prefix = ()
    variables: dict[str, str | None] = dict.fromkeys(("USER", "LOGNAME", "LNAME", "USERNAME", "HOME"))
    ran = wikigpt(
        "run",
        "--profile",
        TINY,
        "--home",
        tmp_path / "home",
        cwd=beside,
        prefix=prefix,
        variables={**variables, "TMPDIR": "/nowhere"},
    )
    assert (ran.code, imported(beside)) == (0, ""), ran
    assert {path.name for path in beside.iterdir()} == {*(f"{name}.py" for name in NAMES), "components"}
