"""A command imports only the large libraries that it needs: an import of one takes up to seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.local.home import open_home

# In the order of the time that they take.
LARGE = {
    "torch", "transformers", "mlflow", "great_expectations", "datasets", "kfp", "sqlalchemy", "pandas", "matplotlib",
    "scipy", "boto3", "docker", "pydantic", "yaml",
}  # fmt: skip
OF_MLFLOW = {"mlflow", "sqlalchemy", "pandas", "scipy", "docker", "pydantic", "yaml"}
OF_TORCH = {"torch", "transformers", "yaml"}
COMMAND = "import atexit, sys; atexit.register(lambda: print(*sys.modules)); from pipelines.cli.app import main; main()"


def loaded(code: str, *arguments: object, **variables: str) -> set[str]:
    """The large libraries that a process has imported when it ends."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "WIKIGPT_"))}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment | variables)
    assert done.stdout, done.stderr
    return LARGE & set(done.stdout.splitlines()[-1].split())


def test_the_help_needs_none() -> None:
    assert loaded(COMMAND, "--help") == set()
    assert loaded(COMMAND, "generate", "--help") <= {"pydantic"}, "typer imports it"


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        (["models"], {"pydantic"}),
        (["generate", "The castle"], {"pydantic"}),
        pytest.param(["promote", "1"], OF_MLFLOW, marks=pytest.mark.slow),
    ],
)
def test_the_registry_needs_mlflow_if_it_is_changed(
    command: list[str], needed: set[str], empty_database: Path, tmp_path: Path
) -> None:
    home = open_home(tmp_path / "home")
    home.database.write_bytes(empty_database.read_bytes())
    assert loaded(COMMAND, *command, WIKIGPT_HOME=str(home.root)) <= needed


@pytest.mark.slow
def test_a_text_is_written_by_torch_and_transformers_alone(hugging_face_folder: Path) -> None:
    code = f"""
import shutil, sys
from pipelines.registry import generation
generation.download_version = lambda client, version, folder: shutil.copytree({str(hugging_face_folder)!r}, folder)
print(generation.write(generation.load_writer(None, None), "The castle", max_new_tokens=2).splitlines()[0])
print(*sys.modules)
"""
    found = loaded(code)
    assert {"torch", "transformers"} <= found <= OF_TORCH


def test_the_process_that_starts_a_run_needs_neither_torch_nor_kfp() -> None:
    """It ends with the summary, which reads the registry."""
    code = """
import sys
from pipelines.cli import options
from pipelines.local.numerics import pin_numerics
from pipelines.local.run import execute
from pipelines.local.runners import runner_plan
from pipelines.local.summary import document, needs_model_option, print_summary
from pipelines.local.log_lines import log_sentence
options.settings_of("quick", [], None)
print(*sys.modules)
"""
    assert loaded(code) <= {"pydantic", "yaml"}
