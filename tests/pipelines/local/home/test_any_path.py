"""Any path can be a home: its database and its artifacts are at exactly that path."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import requests
from mlflow import MlflowClient

from components.shared.tracking.run import Tracking
from pipelines.local.home import Home, existing_tracking_uri, open_home
from pipelines.local.run import step_variables
from tests.odd_paths import odd_names
from tests.pipelines.local.home.conftest import TINY, ui, wikigpt

WORST = "python3 \"b\" 'c' [d] [/e] #f %20 ?g&h=1 {i} $j ü 中文 ไทย"


@pytest.mark.parametrize(
    "name", ["h x", "h%20x", "h?q", "h#f", WORST.replace("/", ""), "new\nline", *odd_names(14, seed=1)]
)
def test_mlflow_keeps_everything_below_the_home(tmp_path: Path, name: str) -> None:
    home = open_home(tmp_path / name)
    tracking = Tracking.open("a-run", uri=home.tracking_uri)
    (tmp_path / "file.txt").write_text("text")
    tracking.artifact(tmp_path / "file.txt")
    assert home.database.is_file()
    assert [path.read_text() for path in (home.root / "mlartifacts").rglob("file.txt")] == ["text"]
    assert Path(tracking.client.download_artifacts(tracking.run_id, "file.txt", str(tmp_path))).read_text() == "text"
    assert {path.name for path in tmp_path.iterdir()} == {name, "file.txt"}, "nothing is written beside the home"
    assert len(MlflowClient(existing_tracking_uri(tmp_path / name)).search_experiments()) == 2


def test_two_homes_whose_names_decode_alike_are_two(tmp_path: Path) -> None:
    Tracking.open("a-run", uri=open_home(tmp_path / "h x").tracking_uri)
    other = MlflowClient(open_home(tmp_path / "h%20x").tracking_uri)
    assert other.get_experiment_by_name("wikigpt") is None


def test_a_name_that_is_not_utf8_is_one_sentence(tmp_path: Path) -> None:
    ended = wikigpt("models", "--home", f"{tmp_path}/\udcff")
    assert (ended.code, ended.is_one_sentence) == (2, True), ended
    assert "not UTF-8" in ended.err


def test_compiled_code_is_kept_in_a_home_whose_path_a_compiler_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch reads the variable when it is imported, so the step itself would set it too late."""
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    name = "TORCHINDUCTOR_CACHE_DIR"
    plain, odd = Home(tmp_path / "plain"), Home(tmp_path / WORST)
    assert step_variables(plain, "store", "run")[name] == str(tmp_path / "plain" / "compile-cache")
    beside = Path(step_variables(odd, "store", "run")[name])
    assert beside.parent == Path(tempfile.gettempdir()) and WORST not in str(beside)
    monkeypatch.setenv(name, "/elsewhere")
    assert name not in step_variables(plain, "store", "run")


@pytest.mark.slow
def test_a_run_in_the_worst_home(tmp_path: Path) -> None:
    home = tmp_path / WORST
    ran = wikigpt("run", "--profile", TINY, "--home", home)
    assert ran.code == 0, ran
    assert "Wiki-GPT" in ran.out
    for arguments in (("models",), ("generate", "The castle"), ("export", "1", tmp_path / "out"), ("gc",)):
        assert wikigpt(*arguments, "--home", home).code == 0, arguments
    assert "skip" in wikigpt("run", "--profile", TINY, "--home", home).err
    assert {path.name for path in tmp_path.iterdir()} == {WORST.split("/")[0], "out"}
    with ui(home, tmp_path) as address:
        runs = requests.post(f"{address}/api/2.0/mlflow/runs/search", json={"experiment_ids": ["1"]}).json()["runs"]
        logged = {"path": "settings.json", "run_uuid": runs[-1]["info"]["run_id"]}
        assert requests.get(f"{address}/get-artifact", params=logged).json()["download"]["corpus"] == "sample"
