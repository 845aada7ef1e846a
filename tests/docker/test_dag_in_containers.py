"""The whole DAG, with each step in a container of the built image, is compared with the same run in processes."""

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.docker.engine import client, docker, image
from tests.e2e.conftest import TINY, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

# The steps run as the user who started the run. If that is root, the test uses another user, as people do.
NOBODY = 65534


@pytest.fixture(scope="module")
def homes() -> Iterator[Path]:
    """A folder of that user, which is at the same path in the containers."""
    with tempfile.TemporaryDirectory(prefix="wikigpt-containers-") as folder:
        if os.getuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        yield Path(folder)


def run(home: Path, *arguments: str) -> dict:
    done = subprocess.run(
        [*stepping_down(), sys.executable, "-m", "pipelines.cli", "run", "--json", "--home", home, *arguments],
        capture_output=True,
        text=True,
        env=environment(HOME=str(home.parent), PYTHONDONTWRITEBYTECODE="1"),
        cwd=home.parent,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return json.loads(done.stdout)


def stepping_down() -> list[str]:
    """Changes root to another user, who can still read root's files, since the interpreter may be one of them."""
    if os.getuid():
        return []
    socket = Path(urlsplit(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")).path)
    who = [f"--reuid={NOBODY}", f"--regid={NOBODY}", f"--groups={socket.stat().st_gid}"]
    return ["setpriv", *who, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


def test_containers_and_processes_make_the_same_model(homes: Path) -> None:
    client()
    contained = run(homes / "contained", "--profile", str(TINY), "--runner", "docker", "--image", image("cpu"))
    assert contained["status"] == "trained"
    assert contained["version"]["version"] == "1"
    made = [path for path in (homes / "contained" / "runs").rglob("*") if path.is_file()]
    assert made and not any(path.stat().st_uid == 0 for path in made)
    assert not any(stat.S_IMODE(path.stat().st_mode) & stat.S_IWOTH for path in made)

    processes = run(homes / "processes", "--profile", str(TINY))
    assert processes["version"]["word_perplexity"] == contained["version"]["word_perplexity"]
    assert weights(homes / "processes") == weights(homes / "contained")


def test_no_container_is_left(homes: Path) -> None:
    assert docker("ps", "--all", "--quiet", "--filter", "label=wikigpt.run") == ""


def weights(home: Path) -> str:
    """The digest of the model that the run trained."""
    (manifest,) = home.glob("runs/*/steps/*/train/model/manifest.json")
    return json.loads(manifest.read_text())["files"]["model.safetensors"]["sha256"]
