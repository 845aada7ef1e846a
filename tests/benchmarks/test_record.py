"""The record that a benchmark writes."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from docs.generator import records
from tests.benchmarks import record


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    record.add_options(parser)
    return parser.parse_args(words)


def test_a_record_has_what_the_pages_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["speed", "--steps", "3", "--record", "x.json"])
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    recorder = record.Recorder(
        options("--record", str(tmp_path / "speed.json"), "--remark", "Busy."), "speed", "Speed", ["rich"]
    )
    recorder.save({"first": 1})
    assert records.load("speed").values == {"first": 1}
    recorder.save({"first": 1, "second": 2})
    made = records.load("speed")
    assert (made.benchmark, made.title, made.remark) == ("speed", "Speed", "Busy.")
    assert made.command == "python -m tests.benchmarks.speed --steps 3"
    assert made.values == {"first": 1, "second": 2}
    assert set(made.versions) == {"python", "rich"}
    assert made.machine["cores"] >= 1 and made.machine["cpu"] and made.machine["load"] >= 0
    assert [path.name for path in tmp_path.iterdir()] == ["speed.json"]


def test_nothing_is_written_without_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    record.Recorder(options(), "speed", "Speed", []).save({"first": 1})
    assert list(tmp_path.iterdir()) == []


def test_a_command_has_no_path_of_the_machine() -> None:
    words = ["/data/wikitext-2", "--remark=Busy machine.", "--record", "/x/y.json", "--set", "a.b=[1, 2]"]
    assert record.command("tests.x", words) == "python -m tests.x wikitext-2 --set 'a.b=[1, 2]'"


def test_only_an_edit_of_code_makes_a_commit_dirty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    for name in ("pipelines/dag.py", "docs/page.md"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("1")
    git("add", "-A")
    git("commit", "-qm", "first")
    monkeypatch.setattr(record, "ROOT", tmp_path)
    head = git("rev-parse", "HEAD")
    (tmp_path / "docs/page.md").write_text("2")
    assert record.commit() == head
    (tmp_path / "pipelines/dag.py").write_text("2")
    assert record.commit() == f"{head}-dirty"
