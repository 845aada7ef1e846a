"""The command on unusual systems: it works, or says in one sentence what to do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from components.shared.base.os_errors import os_failure
from components.shared.tracking.mlflow_database import prepare_database
from pipelines.config.paths import shorten
from pipelines.config.process_environment import complete_environment
from pipelines.local.home import open_home
from tests.pipelines.local.home.conftest import ROOT, TINY, environment, read_only, wikigpt


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = open_home(tmp_path / "home")
    prepare_database(home.database)
    return home.root


def a_file(folder: Path) -> str:
    (folder / "file").write_text("")
    return str(folder / "file")


def under_a_file(folder: Path) -> str:
    return f"{a_file(folder)}/home"


def a_loop(folder: Path) -> str:
    (folder / "a").symlink_to(folder / "b")
    (folder / "b").symlink_to(folder / "a")
    return str(folder / "a")


def beyond_a_loop(folder: Path) -> str:
    return f"{a_loop(folder)}/home"


def a_device(folder: Path) -> str:
    return os.devnull


def a_long_name(folder: Path) -> str:
    return str(folder / ("x" * 300))


def of_no_user(folder: Path) -> str:
    return "~no-such-user/home"


def layout_of_bytes(folder: Path) -> str:
    (folder / "layout").write_bytes(b"\xff\xfe")
    return str(folder)


def a_long_layout(folder: Path) -> str:
    (folder / "layout").write_text("9" * 100_000)
    return str(folder)


def layout_of_a_folder(folder: Path) -> str:
    (folder / "layout").mkdir()
    return str(folder)


def of_others(folder: Path) -> str:
    (folder / "thesis.txt").write_text("mine")
    return str(folder)


def of_the_kernel(folder: Path) -> str:
    return "/proc/self/home"


HOMES: list[tuple[Callable[[Path], str], str]] = [
    (a_file, "The home cannot be used: Not a directory"),
    (under_a_file, "The path cannot be used: Not a directory"),
    (a_loop, "The path contains a loop of symbolic links"),
    (beyond_a_loop, "The path contains a loop of symbolic links"),
    (a_device, "The home cannot be used: Not a directory"),
    (a_long_name, "The path cannot be used: File name too long"),
    (of_no_user, "The user in the path does not exist"),
    (layout_of_bytes, "The home's layout is not a number"),
    (a_long_layout, "The home has layout '99999"),
    (layout_of_a_folder, "The home cannot be used: Is a directory"),
    (of_others, "The folder is not empty, and it is not a home of wikigpt"),
    (of_the_kernel, "Could not write: No such file or directory"),
]


@pytest.mark.parametrize(("make", "sentence"), HOMES)
def test_what_is_no_home(tmp_path: Path, make: Callable[[Path], str], sentence: str) -> None:
    ended = wikigpt("run", "--profile", TINY, "--home", make(tmp_path))
    assert (ended.is_one_sentence, ended.out) == (True, ""), ended
    assert ended.code in (1, 2)
    assert ended.err.startswith(f"wikigpt: {sentence}"), ended.err
    assert "free some space" not in ended.err
    assert len(ended.err) < 1000


@pytest.mark.parametrize("option", ["--store", "--corpus", "--home"])
def test_every_option_that_takes_a_path(tmp_path: Path, home: Path, option: str) -> None:
    others = {"--home": home, "--corpus": "sample"} | {option: a_loop(tmp_path) + "/x"}
    ended = wikigpt("check", *(each for pair in others.items() for each in pair))
    assert (ended.code, ended.is_one_sentence) == (2, True), ended


READ_ONLY: list[tuple[tuple[object, ...], int, str]] = [
    (("models",), 0, ""),
    (("gc",), 0, ""),
    (("run", "--profile", TINY), 1, "wikigpt: Could not write: (Read-only file system|Permission denied)"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "code", "sentence"), READ_ONLY)
def test_a_home_that_cannot_be_written(home: Path, command: tuple[object, ...], code: int, sentence: str) -> None:
    ended = wikigpt(*command, "--home", home, prefix=read_only(home))
    assert ended.code == code, ended
    assert re.match(sentence, ended.err)
    assert code == 0 or ended.is_one_sentence


_AS_ANOTHER = """
import os, pathlib, sys
from components.shared.base.failure import Failure
from components.shared.tracking.mlflow_database import prepare_database
from components.shared.tracking.mlflow_schema import latest_revision
from pipelines.local.home import open_home
import pipelines.local.relocation
latest_revision()  # imports what the other user may have no right to read
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    home = open_home(pathlib.Path(sys.argv[1]))
    prepare_database(home.database)
    home.new_run()
except Failure as failure:
    print(failure)
"""


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o555])
@pytest.mark.parametrize("made", [True, False])
def test_a_home_that_another_user_may_not_use(tmp_path: Path, home: Path, mode: int, made: bool) -> None:
    if not made:
        shutil.rmtree(home)
        home.mkdir()
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path(folder.anchor):
            folder.chmod(folder.stat().st_mode | 0o055)
    home.chmod(mode)
    done = subprocess.run(
        [sys.executable, "-c", _AS_ANOTHER, str(home)], capture_output=True, text=True, env=environment()
    )
    home.chmod(0o755)
    assert done.stderr == ""
    assert "Permission denied" in done.stdout and "let this user read and write it" in done.stdout


@pytest.mark.slow
def test_a_user_without_a_name_or_a_folder(home: Path) -> None:
    unshare = ("unshare", "-U", "--map-user=12345")
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("no user can be mapped here")
    nothing: dict[str, str | None] = dict.fromkeys(("USER", "LOGNAME", "LNAME", "USERNAME", "HOME"))
    code = "import getpass, pathlib, sys; from pipelines.cli.app import main; sys.argv = ['wikigpt', '--help']\n"
    code += "try: main()\nexcept SystemExit: print(getpass.getuser(), pathlib.Path.home())"
    done = subprocess.run(
        [*unshare, sys.executable, "-c", code], capture_output=True, text=True, env=environment(**nothing), cwd=ROOT
    )
    name, folder = done.stdout.splitlines()[-1].split()
    assert (name, done.stderr) == ("12345", "")
    assert Path(folder).stat().st_mode & 0o077 == 0
    assert wikigpt("models", "--home", home, prefix=unshare, variables=nothing).code == 0


@pytest.mark.parametrize("arguments", [("models",), ("run",), ("export", "1", "out")])
def test_a_working_folder_that_was_deleted(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "gone").mkdir()
    script = f'cd {tmp_path}/gone && rmdir {tmp_path}/gone && exec "$@"'
    ended = wikigpt(*arguments, prefix=("sh", "-c", script, "sh"))
    assert (ended.code, ended.err) == (
        2,
        f"wikigpt: The working folder was deleted ({tmp_path}/gone): cd to another folder, then run again.\n",
    )
    assert wikigpt("--help", prefix=("sh", "-c", f"mkdir -p {tmp_path}/gone && {script}", "sh")).code == 0


def test_a_missing_folder_for_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMPDIR", "PYTHONPATH", "PYTHONSAFEPATH"):
        monkeypatch.setenv(name, "/nowhere")
    complete_environment()
    made = subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip()
    Path(made).rmdir()


def test_each_kind_of_refusal_has_its_own_remedy(tmp_path: Path) -> None:
    said = {
        os_failure(OSError(kind, os.strerror(kind)), tmp_path).remedy for kind in (2, 13, 17, 20, 21, 28, 30, 36, 40)
    }
    assert len(said) == 9
    assert os_failure(OSError("the disk said something"), tmp_path).remedy.startswith("free some space")


def test_a_working_folder_that_is_deleted_during_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    assert shorten(str(tmp_path / "gone" / "log.txt")) == "log.txt"
    (tmp_path / "gone").rmdir()
    assert shorten(str(tmp_path / "log.txt")) == str(tmp_path / "log.txt")
    monkeypatch.undo()
