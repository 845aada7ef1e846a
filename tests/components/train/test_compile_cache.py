"""A compile cache that was shipped saves the compilation, changes no number, and is ignored on another machine."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from components.shared.storage.manifest import Manifest
from components.train import compile_cache
from components.train.compile_cache import identity, unpack_shipped
from tests.components.train.conftest import TINY

CPU = torch.device("cpu")
# A training in a new process, as of a new pod: it prints what was compiled, and the digest of its weights.
TRAINING = """
import hashlib, json, sys
from pathlib import Path
from torch._dynamo.utils import counters
from components.train.run import run
from tests.components.train.conftest import tiny_step
tokens, model, values = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
run(tiny_step(every=None, **values), "f" * 32, tokens, model)
found = {name: counters[kind][name] for kind, name in (
    ("inductor", "fxgraph_cache_hit"), ("inductor", "fxgraph_cache_miss"), ("aot_autograd", "autograd_cache_hit"))}
print(json.dumps({**found, "weights": hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()}))
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which torch looks for compiled code; the shipped file is beside it."""
    monkeypatch.setenv("WIKIGPT_COMPILE_CACHE", str(tmp_path / "shipped"))
    monkeypatch.setattr(compile_cache, "cache_dir", lambda: str(tmp_path / "cache"))
    return tmp_path / "cache"


def ship(folder: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(folder / "shipped", "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def test_what_is_packed_is_unpacked_where_torch_looks(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "ab").mkdir(parents=True)
    (cache / "ab" / "kernel.so").write_bytes(b"machine code")
    (cache / "ab" / "kernel.lock").touch()
    assert compile_cache.pack(tmp_path / "shipped", CPU) == 1
    monkeypatch.setattr(compile_cache, "cache_dir", lambda: str(tmp_path / "pod"))
    assert unpack_shipped(CPU) is None
    assert [path.name for path in (tmp_path / "pod").rglob("*") if path.is_file()] == ["kernel.so"]
    (tmp_path / "pod/ab/kernel.so").write_bytes(b"newer")
    assert unpack_shipped(CPU) is None
    assert (tmp_path / "pod/ab/kernel.so").read_bytes() == b"newer", "what torch wrote itself stays"


def test_nothing_is_done_without_a_file(cache: Path) -> None:
    assert unpack_shipped(CPU) is None
    assert not cache.exists()


def test_a_cache_of_another_machine_is_ignored_with_a_note(cache: Path, tmp_path: Path) -> None:
    other = {**identity(CPU), "device": "another CPU"}
    ship(tmp_path, {"identity.json": json.dumps(other).encode(), "cache/kernel.so": b"code"})
    assert f"device 'another CPU', here {identity(CPU)['device']!r}" in str(unpack_shipped(CPU))
    assert not cache.exists()


@pytest.mark.parametrize("damage", ["no archive", "cut", "outside", "no identity"])
def test_a_damaged_cache_is_ignored_with_a_warning(damage: str, cache: Path, tmp_path: Path) -> None:
    ours = json.dumps(identity(CPU)).encode()
    name = "cache/../../outside" if damage == "outside" else "cache/kernel.so"
    ship(tmp_path, {"identity.json" if damage != "no identity" else "cache/a": ours, name: bytes(40_000)})
    shipped = tmp_path / "shipped"
    if damage == "no archive":
        shipped.write_bytes(b"nothing")
    elif damage == "cut":
        shipped.write_bytes(shipped.read_bytes()[:20_000])
    assert "cannot be read" in str(unpack_shipped(CPU))
    assert not (tmp_path / "outside").exists()


@pytest.mark.slow
def test_the_first_step_of_a_new_pod_compiles_nothing_and_gives_the_same_weights(
    here: Path, tokens_dir: Path, tokens: Manifest
) -> None:
    values: dict[str, Any] = {"compile": True, "steps": 2, "num_hidden_layers": 1, "hidden_size": 64}
    profile = {"train": {**TINY, **values}, "tokenize": {"vocab_size": tokens.metadata["vocab_size"]}}
    (here / "profile.yaml").write_text(yaml.safe_dump(profile))
    shipped = here / "shipped"
    command = ["-m", "pipelines.local.compile_cache", "--profile", str(here / "profile.yaml"), "-o", str(shipped)]
    subprocess.run([sys.executable, *command], check=True)

    def train(pod: str, **variables: str) -> dict[str, Any]:
        model, cache = here / pod / "model", here / pod / "cache"
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache), "WIKIGPT_STORE": str(here / pod / "store")}
        environment |= {"MLFLOW_TRACKING_URI": f"sqlite:///{here / pod / 'mlflow.db'}", **variables}
        words = [sys.executable, "-c", TRAINING, str(tokens_dir), str(model), json.dumps(values)]
        (here / pod).mkdir()
        ended = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=environment, check=True)
        libraries = {path.name for path in cache.rglob("*.so")}
        return {**json.loads(ended.stdout.splitlines()[-1]), "libraries": libraries}

    with tarfile.open(shipped) as archive:
        libraries = {Path(name).name for name in archive.getnames() if name.endswith(".so")}
    warm = train("warm", WIKIGPT_COMPILE_CACHE=str(shipped))
    cold = train("cold")
    assert warm["fxgraph_cache_miss"] == 0 and warm["autograd_cache_hit"] + warm["fxgraph_cache_hit"] > 0, warm
    assert warm["libraries"] == libraries, "the C++ compiler made nothing"
    assert cold["fxgraph_cache_miss"] > 0
    assert warm["weights"] == cold["weights"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.compile=false", "The profile cpu does not compile, so no compile cache can be made for it"),
        ("train.pretrained=/weights", "The profile cpu starts from pretrained weights, so no compile cache"),
    ],
)
def test_a_profile_that_has_no_compile_cache_is_refused(
    change: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipelines.local.compile_cache import main

    words = ["compile_cache", "--profile", "cpu", "--set", change, "-o", str(tmp_path / "file")]
    words += ["--set", "train.sampled_softmax=null"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(message)
    assert list(tmp_path.iterdir()) == []
