"""A compile cache in one file, which an image ships, so that the first training of a pod finds its loss compiled.

The file is a tar archive: first `identity.json`, which says where its code runs, then the files of Inductor's cache.
These include the libraries that a C++ compiler made for a CPU, which `torch.compiler.save_cache_artifacts` leaves out.
"""

from __future__ import annotations

import io
import json
import os
import platform
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from components.shared.model.hardware import cpu_model
from components.shared.storage.files import write_atomically

_IDENTITY = "identity.json"
_FOLDER = "cache"
_SUFFIXES_LEFT_OUT = (".lock", ".tmp")


def cache_dir() -> str:
    """The folder in which torch looks for compiled code."""
    # The import takes seconds, and only trainings that compile need it.
    from torch._inductor.runtime import cache_dir_utils

    return cache_dir_utils.cache_dir()


def identity(device: torch.device) -> dict[str, str]:
    """What the compiled code of a device depends on, besides the model.

    Code for a CPU uses all instructions of the CPU that compiled it, so it is only for the same model of CPU.
    """
    common = {"torch": torch.__version__, "python": platform.python_version(), "machine": platform.machine()}
    if device.type == "cuda":
        capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
        names = {"device": torch.cuda.get_device_name(device), "capability": capability}
        return {**common, **names, "cuda": str(torch.version.cuda)}
    return {**common, "device": cpu_model(), "capability": torch.backends.cpu.get_cpu_capability()}


def pack(file: Path, device: torch.device) -> int:
    """Writes the compile cache of this process to a file.

    Returns:
        The number of files in it.
    """
    folder = Path(cache_dir())
    paths = sorted(each for each in folder.rglob("*") if each.is_file() and each.suffix not in _SUFFIXES_LEFT_OUT)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", encoding="utf-8") as archive:
        head = json.dumps(identity(device), indent=1).encode()
        entry = tarfile.TarInfo(_IDENTITY)
        entry.size = len(head)
        archive.addfile(entry, io.BytesIO(head))
        for path in paths:
            archive.add(path, f"{_FOLDER}/{path.relative_to(folder).as_posix()}")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, buffer.getvalue())
    return len(paths)


def unpack_shipped(device: torch.device) -> str | None:
    """Puts the compile cache in the file that `WIKIGPT_COMPILE_CACHE` names where torch looks for it.

    Several processes may do so at once. A file that is missing, for another device or damaged is ignored, because it
    only saves time.

    Returns:
        A remark why the file is ignored, or None.
    """
    name = os.environ.get("WIKIGPT_COMPILE_CACHE", "")
    if not name or not (file := Path(name)).is_file():
        return None
    try:
        with tarfile.open(file, encoding="utf-8") as archive:
            unlike = _differences(archive, identity(device))
            if unlike:
                return f"The compile cache {file.name} is ignored, as it is of another machine: {unlike}"
            for entry in archive:
                _unpack(archive, entry, Path(cache_dir()))
    except (tarfile.TarError, OSError, ValueError) as error:
        return f"warning: the compile cache {file.name} is ignored, as it cannot be read: {error}"
    return None


def _differences(archive: tarfile.TarFile, ours: dict[str, str]) -> str:
    first = archive.next()
    if first is None or first.name != _IDENTITY:
        raise ValueError(f"it does not begin with {_IDENTITY}")
    content: Any = archive.extractfile(first)
    theirs = json.loads(content.read())
    return "; ".join(
        f"{key} {theirs.get(key)!r}, here {value!r}" for key, value in ours.items() if theirs.get(key) != value
    )


def _unpack(archive: tarfile.TarFile, entry: tarfile.TarInfo, folder: Path) -> None:
    """Writes a file of the archive, unless it exists."""
    parts = PurePosixPath(entry.name).parts
    if parts[:1] != (_FOLDER,) or not entry.isfile():
        return
    if ".." in parts:
        raise ValueError(f"it has a file outside its folder, {entry.name}")
    target = folder.joinpath(*parts[1:])
    if target.exists():
        return
    content: Any = archive.extractfile(entry)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, content.read())
    target.chmod(entry.mode & 0o777)
