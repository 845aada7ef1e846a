"""The installation on a laptop: which program gets which arguments, by programs that only note them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.laptop import install

ROOT = Path(__file__).parents[2]
NOTE = """#!{python}
import json, os, sys
variables = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_RETRIES", "UV_HTTP_RETRIES")
call = [{name!r}, *sys.argv[1:]], {{name: os.environ[name] for name in variables if name in os.environ}}
with open({log!r}, "a", encoding="utf-8") as log:
    print(json.dumps(call), file=log)
sys.exit(any(word in json.dumps(call) for word in os.environ.get("FAILS", "").split()))
"""
TORCH = (ROOT / "docker/lock/torch.txt").read_text().splitlines()[-1]


@dataclass
class Laptop:
    """A laptop whose pip and uv note their calls, and fail where a call contains a word of FAILS."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch

    def program(self, path: str) -> Path:
        made = self.folder / path
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(NOTE.format(python=sys.executable, name=made.name, log=str(self.folder / "log")))
        made.chmod(made.stat().st_mode | stat.S_IXUSR)
        return made

    def install(self, *arguments: str, fails: str = "", driver: bool = False) -> None:
        self.monkeypatch.setenv("FAILS", fails)
        self.monkeypatch.setattr(install, "has_nvidia_driver", lambda: driver)
        self.monkeypatch.setattr(sys, "argv", ["install.py", str(self.folder / "venv"), *arguments])
        install.main()

    @property
    def calls(self) -> list[tuple[str, list[str], dict[str, str]]]:
        """Program, requirements and variables of each call."""
        lines = (self.folder / "log").read_text().splitlines()
        found = []
        for (program, *arguments), variables in map(json.loads, lines):
            wanted = arguments[arguments.index("install") + 1 :]
            shown = [Path(word).name if word.startswith("/") else word for word in wanted]
            ignored = {"--quiet", "--disable-pip-version-check", "--python", "python", "-r"}
            found.append((program, [word for word in shown if word not in ignored], variables))
        return found


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Laptop:
    made = Laptop(tmp_path, monkeypatch)
    made.program("venv/bin/python")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("TORCH_INDEX", "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_RETRIES"):
        monkeypatch.delenv(name, raising=False)
    return made


def index_of(address: str) -> dict[str, str]:
    return {"PIP_INDEX_URL": address, "UV_DEFAULT_INDEX": address}


LOCKED = ["--require-hashes", "--no-deps", "base.txt", "train.txt"]
PROJECT = ["--no-deps", "--no-build-isolation", "-e", ROOT.name]
ONCE = {**index_of(install.CPU_INDEX), "PIP_RETRIES": "0", "UV_HTTP_RETRIES": "0"}


def test_without_a_driver_torch_comes_from_the_index_of_cpu_builds(laptop: Laptop) -> None:
    laptop.install()
    assert laptop.calls == [
        ("python", LOCKED, {}),
        ("python", ["--no-deps", TORCH], ONCE),
        ("python", PROJECT, {}),
    ]


def test_where_that_cannot_be_reached_pip_takes_it_from_its_own_index(laptop: Laptop, capfd) -> None:
    laptop.install(fails="download.pytorch.org")
    assert laptop.calls[1:3] == [("python", ["--no-deps", TORCH], ONCE), ("python", [TORCH], {})]
    assert f"it cannot be had there, so pip takes {TORCH} from the index" in capfd.readouterr().out


def test_torch_index_wins_and_is_no_argument_that_other_users_can_read(laptop: Laptop) -> None:
    address = "https://me:secret@mirror.example/cpu"
    laptop.monkeypatch.setenv("TORCH_INDEX", address)
    laptop.install(driver=True)
    assert laptop.calls[1] == ("python", [TORCH], index_of(address))


def test_torch_index_that_does_not_work_is_an_error_without_the_address(laptop: Laptop, capfd) -> None:
    laptop.monkeypatch.setenv("TORCH_INDEX", "https://me:secret@mirror.example/cpu")
    with pytest.raises(SystemExit) as ended:
        laptop.install(fails="mirror.example")
    assert ended.value.code == "install: torch could not be installed: see the message above."
    assert "secret" not in "".join(capfd.readouterr())


def test_with_a_driver_torch_is_the_one_of_the_gpu_image(laptop: Laptop) -> None:
    laptop.monkeypatch.setattr("platform.machine", lambda: "x86_64")
    laptop.monkeypatch.setattr(sys, "platform", "linux")
    laptop.install(driver=True)
    assert laptop.calls[1] == ("python", ["--require-hashes", "--no-deps", "cuda.txt"], {})


def test_uv_is_used_where_it_is_installed(laptop: Laptop) -> None:
    laptop.program("bin/uv")
    laptop.install("test")
    assert laptop.calls == [
        ("uv", [*LOCKED, "test.txt"], {}),
        ("uv", ["--no-deps", TORCH], ONCE),
        ("python", PROJECT, {}),
    ]


def test_what_uv_cannot_install_pip_does_and_a_line_says_so(laptop: Laptop, capfd) -> None:
    laptop.program("bin/uv")
    laptop.install(fails='"uv"')
    assert [call[0] for call in laptop.calls] == ["uv", "python", "uv", "python", "python"]
    assert capfd.readouterr().out.count("uv cannot install this, so pip tries") == 2


def test_a_lock_that_cannot_be_installed_ends_the_installation(laptop: Laptop) -> None:
    with pytest.raises(SystemExit) as ended:
        laptop.install(fails="base.txt")
    assert ended.value.code == "install: the packages could not be installed: see the message above."
    assert len(laptop.calls) == 1


def test_an_old_python_is_named_with_the_remedy(laptop: Laptop) -> None:
    laptop.monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or later.*make run PYTHON="):
        laptop.install()


def test_the_program_needs_the_standard_library_only() -> None:
    command = [sys.executable, "-I", "-S", str(ROOT / "infra/laptop/install.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
    assert (done.returncode, done.stderr) == (0, "")
