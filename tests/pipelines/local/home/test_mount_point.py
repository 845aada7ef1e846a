"""An export into the mount point of an empty disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.local.home import Home, open_home
from tests.pipelines.local.home.conftest import may_mount, wikigpt
from tests.registry import make_folders, make_step, register


@pytest.fixture
def home(
    tmp_path: Path,
    hugging_face_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Home:
    home = open_home(tmp_path / "home")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", home.tracking_uri)
    monkeypatch.setenv("WIKIGPT_STORE", str(home.store))
    register(make_step("run-1"), make_folders(tmp_path / "a", hugging_face_folder, reuse_key="1" * 32))
    return home


@pytest.mark.slow
def test_the_disk_is_filled(home: Home, tmp_path: Path) -> None:
    unshare = may_mount()
    if unshare is None:
        pytest.skip("nobody may mount a file system here; test_export.py holds that the folder is kept")
    (tmp_path / "disk").mkdir()
    script = f'mount -t tmpfs tmpfs {tmp_path}/disk && "$@" && ls {tmp_path}/disk'
    ended = wikigpt("export", "1", tmp_path / "disk", "--home", home.root, prefix=(*unshare, "sh", "-c", script, "sh"))
    assert ended.code == 0, ended
    assert {"config.json", "model.safetensors", "README.md"} <= set(ended.out.split())
