"""The timed transcript of the README's first lines, with a stand-in for Docker's client."""

import json
from pathlib import Path

import pytest

from docs.generator import records
from tests.benchmarks import first_minute

CLIENT = """#!/bin/sh
# Runs what `docker exec` is given here and now; every other command of Docker's succeeds.
[ "$1" = exec ] || exit 0
for word; do [ "$word" = -c ] && shift && break; shift; done
case "$1" in
*"make run"*)
    printf '1 of 2 files\\r2 of 2 files\\n'
    echo "Looking in indexes: https://user:secret@mirror.example/simple"
    i=0; while [ $i -lt 100 ]; do echo "line $i"; i=$((i + 1)); done
    echo "Train the model: 0 % · loss 6.486 · 84 tokens/s" ;;
*"make test"*) echo "1 failed"; exit 2 ;;
*os-release*) echo "Debian, Python 3.11" ;;
esac
"""


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The record of the command, whose last line failed."""
    client = tmp_path / "bin/docker"
    client.parent.mkdir()
    client.write_text(CLIENT)
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(client.parent), prepend=":")
    path = tmp_path / "first_minute.json"
    monkeypatch.setattr("sys.argv", ["first_minute", "--record", str(path)])
    first_minute.program.cache_clear()
    with pytest.raises(SystemExit) as ended:
        first_minute.main()
    first_minute.program.cache_clear()
    assert ended.value.code == 2
    return path


def test_each_line_has_its_seconds_and_the_first_loss_its_moment(
    recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "FOLDER", recorded.parent)
    values = records.load("first_minute").values
    lines = values["lines"]
    assert [line["command"] for line in lines] == [
        "git clone /srv/wiki-gpt.git wiki-gpt", "make run", "make run", "make test",
    ]  # fmt: skip
    assert [line["exit_code"] for line in lines] == [0, 0, 0, 2]
    assert list(values["seconds"]) == ["clone", "first_run", "second_run", "test", "first_loss"]
    assert values["seconds"]["first_run"] >= values["seconds"]["first_loss"] == lines[1]["first_loss"]
    assert values["container"] == "Debian, Python 3.11"


def test_a_long_output_is_shortened_and_the_configuration_of_pip_left_out(recorded: Path) -> None:
    text = recorded.read_text()
    output = json.loads(text)["values"]["lines"][1]["output"]
    assert "secret" not in text
    assert len(output) == first_minute._KEPT + 1
    assert [line for _, line in output if "left out" in line] == [f"({102 - first_minute._KEPT} lines are left out)"]
    assert [line for _, line in output[:2]] == ["2 of 2 files", "line 0"] and output[-2][1] == "line 99"
