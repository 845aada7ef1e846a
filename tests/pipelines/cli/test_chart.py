"""`wikigpt models --chart`: the trend over versions as a picture, or as bars."""

import builtins
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.pipelines.conftest import Command
from tests.pipelines.registry.conftest import _filled, filled  # noqa: F401


@pytest.mark.parametrize("name", ["trend.png", "trend.SVG"])
def test_a_picture_is_written(command: Command, filled: MlflowClient, tmp_path: Path, name: str) -> None:  # noqa: F811
    code, _, err = command("models", "--model", "wikigpt-sample", "--chart", tmp_path / name, "--home", tmp_path)
    assert (code, (tmp_path / name).stat().st_size > 5000) == (0, True)
    assert f"The trend over 2 versions of wikigpt-sample is in {tmp_path / name}." in " ".join(err.split())


def test_bars_are_printed(command: Command, filled: MlflowClient, tmp_path: Path) -> None:  # noqa: F811
    code, out, _ = command("models", "--chart", "-", "--home", tmp_path)
    first, second = (line for line in out.splitlines() if "█" in line)
    assert code == 0 and "champion" in first and second.count("█") == 30 > first.count("█")
    code, _, err = command("models", "--chart", "-", "--json", "--home", tmp_path)
    assert code == 2 and "leave one of" in " ".join(err.split())


@pytest.mark.parametrize(
    ("chart", "said"), [("trend.pdf", "A chart is a PNG or an SVG"), ("no/trend.png", "The folder of the chart")]
)
def test_another_file_is_refused_before_the_registry_is_read(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chart: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = command("models", "--chart", chart, "--home", tmp_path)
    assert (code, said in err) == (2, True)


def test_without_matplotlib_it_is_one_sentence(
    command: Command,
    filled: MlflowClient,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    code, _, err = command("models", "--chart", tmp_path / "trend.png", "--home", tmp_path)
    assert code == 2 and "needs the package matplotlib, which is not installed" in err
    assert not (tmp_path / "trend.png").exists()
