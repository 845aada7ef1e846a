"""The command line under locales whose encoding is not UTF-8 writes UTF-8, and never ends with a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.local import machine
from tests.e2e.conftest import TINY
from tests.pipelines.registry.conftest import _filled, filled  # noqa: F401
from tests.texts.corpora import write_wikitext
from tests.texts.locales import NAMES, environment

CARD = "# wikigpt-语料 version 1\n\nA “card” with ✓, é and 語.\n"


@pytest.fixture(scope="session")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("locales")


def wikigpt(*arguments: object, env: dict[str, str], timeout: float = 120) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    ended = subprocess.run(command, env=env, capture_output=True, timeout=timeout)
    assert b"Traceback" not in ended.stderr, ended.stderr.decode(errors="replace")
    return ended


SEVERAL = [NAMES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])]


@pytest.mark.parametrize("name", SEVERAL)
def test_a_check_of_a_corpus_with_a_name_in_another_script(locales, tmp_path, name):
    folder = write_wikitext(tmp_path / "语料")
    sets = ["--set", "train.precision=float32"]  # the default is measured, which takes seconds
    ended = wikigpt("check", "--home", tmp_path / "home", "--corpus", folder, *sets, env=environment(name, locales))
    assert ended.returncode == 0, ended.stderr.decode()
    shown = "".join(ended.stdout.decode().split())  # a table breaks a long path
    assert (r"\u8bed\u6599" if name == "PYTHONIOENCODING" else "语料") in shown


def test_messages_of_other_programs_are_in_the_encoding_of_the_locale(tmp_path, monkeypatch):
    """git, outside a checkout, complains in Chinese and in GBK."""
    program = tmp_path / "git"
    program.write_bytes(b"#!/bin/sh\nprintf '\\326\\302\\303\\374\\n' >&2\nexit 128\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert machine.commit() == ""


def test_what_is_refused_is_a_sentence(locales, tmp_path):
    ended = wikigpt("check", "--home", tmp_path / "é", "--corpus", "語", env=environment("C", locales))
    assert ended.returncode == 2
    assert "語" in ended.stderr.decode()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_exported_card_is_utf_8(filled, locales, tmp_path, name):  # noqa: F811
    filled.update_model_version("wikigpt-sample", "1", CARD)
    variables = environment(name, locales, MLFLOW_TRACKING_URI=filled.tracking_uri)
    ended = wikigpt("export", "1", tmp_path / "出", "--home", tmp_path / "home", env=variables)
    assert ended.returncode == 0, ended.stderr.decode()
    assert (tmp_path / "出" / "README.md").read_bytes().endswith(CARD.encode())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_doctor_says_what_it_saw(locales, tmp_path, name):
    ended = wikigpt("doctor", "--home", tmp_path / "語", env=environment(name, locales))
    assert b"Disk" in ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zh_CN.GBK"])
def test_a_whole_run(locales, tmp_path, name):
    """Every file of a run is UTF-8, and the summary names the corpus."""
    folder = write_wikitext(tmp_path / "语料")
    arguments = ["--json", "--profile", TINY, "--home", tmp_path / "home", "--corpus", folder]
    ended = wikigpt("run", *arguments, env=environment(name, locales), timeout=300)
    assert ended.returncode == 0, ended.stderr.decode()
    outcome = json.loads(ended.stdout)
    assert outcome["corpus"] == "语料"
    assert outcome["version"]["name"] == "wikigpt-语料"
    for path in [Path(outcome["log"]), *map(Path, outcome["reports"].values())]:
        assert "语料" in path.read_bytes().decode(), path
