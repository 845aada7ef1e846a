"""A step with its own store and database, and small texts."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.shared.runtime.step import Step

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
def step(
    tmp_path: Path,
    tracking_uri: str,
    own_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Step]:
    """Makes a step with settings of download, by default of a team's own text; store and MLflow are real."""
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))

    def make(run: str = "run-1", **download: Any) -> Step:
        section = {"corpus": str(own_folder), **download}
        return Step("download", run, {"download": section, "tokenize": {"tokenizer": "bpe"}, "train": {"steps": 3}})

    return make


Files = dict[str, bytes] | list[tuple[str, bytes]]


def _pairs(files: Files) -> list[tuple[str, bytes]]:
    return list(files.items()) if isinstance(files, dict) else files


def zip_of(files: Files) -> bytes:
    """A zip archive of names and contents; a list may hold a name twice."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in _pairs(files):
            archive.writestr(name, content)
    return buffer.getvalue()


def tar_of(files: Files, *, links: dict[str, str] | None = None) -> bytes:
    """A tar.gz archive of names and contents, and of symbolic links."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in _pairs(files):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return buffer.getvalue()
