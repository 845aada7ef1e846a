"""A step with a store and a database of its own, and small texts."""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.shared.step import Step

TEXTS = {
    "train": b" \n = One = \n \n The river runs to the sea . \n \n",
    "validation": b" \n = Two = \n \n The hill stands by the road . \n \n",
    "test": b" \n = Three = \n \n A bird sings in the tree . \n \n",
}


@pytest.fixture
def texts() -> dict[str, bytes]:
    return dict(TEXTS)


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    """A team's own text."""
    folder = tmp_path / "harbour-texts"
    folder.mkdir()
    for split, text in TEXTS.items():
        (folder / f"{split}.txt").write_bytes(text)
    return folder


@pytest.fixture
def make_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Step]:
    """Makes a step with settings of download; store and MLflow are real, in a folder."""
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)

    def make(run: str = "night-1", **download: Any) -> Step:
        settings = {"download": download, "tokenize": {"tokenizer": "bpe"}, "train": {"steps": 3}, "notify": {}}
        return Step(name="download", run=run, settings=json.loads(json.dumps(settings)))

    return make


def zip_of(files: dict[str, bytes]) -> bytes:
    """A zip archive of names and contents."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tar_of(files: dict[str, bytes], *, links: dict[str, str] | None = None) -> bytes:
    """A tar.gz archive of names and contents, and of symbolic links."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return buffer.getvalue()
