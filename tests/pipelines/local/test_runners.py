"""The arguments of the containers of a run on this machine."""

from __future__ import annotations

from pathlib import Path

from pipelines.config.settings import load
from pipelines.local.home import Home
from pipelines.local.runners import runner_plan


def container(tmp_path: Path, *overrides: str) -> dict:
    settings = load("quick", list(overrides))
    return runner_plan("docker", None, Home(tmp_path / "home"), str(tmp_path / "store"), settings)["docker"]


def test_containers_write_to_home_and_store_and_read_what_the_settings_name(tmp_path: Path) -> None:
    for name in ("corpus", "weights", "tokenizer"):
        (tmp_path / name).mkdir()
    named = {"download.corpus": "corpus", "train.pretrained": "weights", "tokenize.tokenizer": "tokenizer"}
    made = container(tmp_path, *(f"{key}={tmp_path / name}" for key, name in named.items()))
    mounts = {Path(mount["Source"]).name: mount["ReadOnly"] for mount in made["mounts"]}
    assert mounts == {"home": False, "store": False, "corpus": True, "weights": True, "tokenizer": True}
    assert all(mount["Source"] == mount["Target"] for mount in made["mounts"])


def test_names_that_are_no_folders_are_not_mounted(tmp_path: Path) -> None:
    made = container(tmp_path, "download.corpus=wikitext-2-v1")
    assert {Path(mount["Source"]).name for mount in made["mounts"]} == {"home", "store"}


def test_a_run_on_a_gpu_is_given_the_gpus(tmp_path: Path) -> None:
    assert "device_requests" not in container(tmp_path, "train.device=cpu")
    (request,) = container(tmp_path, "train.device=cuda")["device_requests"]
    assert request["Capabilities"] == [["gpu"]]
