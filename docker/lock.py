"""Writes all lock files from the dependencies in pyproject.toml and docker/lock/mlflow.in: `make lock`.

    python docker/lock.py [--upgrade]     needs `uv` on the PATH and a package index, which no lock names

A pin is kept while its requirement permits it. With --upgrade every package gets the newest release that is permitted.

    base.txt     laptops: what the command line needs
    train.txt    laptops: what the extra `train` adds to it, without torch
    test.txt     laptops: what the extra `test` adds to both; each other extra has such a file too
    app.txt      images: every package that the step images share, which excludes torch and what only CUDA needs
    torch.txt    laptops and images: the version of torch. It has no hash, because its CPU builds are other files than
                 the release and come from another index
    cuda.txt     the default build of torch for Linux on x86-64, and its CUDA libraries
    mlflow.txt   images: the MLflow server

The locks of laptops are for every platform and Python, by markers. Those of images are for Linux and Python 3.11, and
have the same versions.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

LOCK = Path(__file__).parent / "lock"
PROJECT = Path(__file__).parents[1] / "pyproject.toml"
ANYWHERE = ["--universal", "--fork-strategy=fewest", "--python-version=3.11"]
IMAGE = ["--python-version=3.11", "--python-platform=x86_64-manylinux_2_28"]
# MLflow needs these to log and evaluate models in a client. Its server never imports them, and they are half of the
# image's size.
CLIENT_ONLY = {
    "contourpy",
    "cycler",
    "fonttools",
    "joblib",
    "kiwisolver",
    "matplotlib",
    "pillow",
    "pyarrow",
    "pyparsing",
    "scikit-learn",
    "scipy",
    "skops",
    "threadpoolctl",
}
HEADER = "# Written by docker/lock.py: change pyproject.toml and run `make lock`.\n"
# A pin of one package, which may stand in several lines with markers: its lines by its name.
Entries = dict[str, str]


def main(upgrade: bool) -> None:
    if not shutil.which("uv"):
        raise SystemExit("docker/lock.py resolves by uv, which is not on the PATH: install it by `pip install uv`.")
    kept = [] if upgrade else [path.read_text(encoding="utf-8") for path in sorted(LOCK.glob("*.txt"))]
    project = PROJECT.read_text(encoding="utf-8")
    everything = resolve(project, [*ANYWHERE, "--all-extras"], prefer=kept)
    pinned = list(everything.values())
    base = resolve(project, ANYWHERE, prefer=pinned).keys()
    by_extra = {
        extra: resolve(project, [*ANYWHERE, f"--extra={extra}"], prefer=pinned).keys()
        for extra in tomllib.loads(project)["project"]["optional-dependencies"]
    }
    image = resolve(project, [*IMAGE, "--extra=serve"], prefer=pinned)
    server = resolve((LOCK / "mlflow.in").read_text(encoding="utf-8"), IMAGE, prefer=[*pinned, *kept])
    torch = torch_names(everything)
    write("base", everything, base)
    write("train", everything, by_extra["train"] - base - torch)
    for extra in by_extra.keys() - {"train"}:
        write(extra, everything, by_extra[extra] - by_extra["train"] - base - torch)
    write("app", image, image.keys() - torch)
    write("cuda", image, image.keys() & torch)
    write("mlflow", server, server.keys() - CLIENT_ONLY)
    (LOCK / "torch.txt").write_text(f"{HEADER}torch=={version(image['torch'])}\n", encoding="utf-8")


def resolve(requirements: str, arguments: list[str], prefer: Iterable[str]) -> Entries:
    """Returns every package that requirements need: its pin and hashes by its name.

    Args:
        requirements: the text of a pyproject.toml or of a file of requirements.
        arguments: of uv: the platform and the extras.
        prefer: texts of locks, whose pins are kept where the requirements permit them; the first of a package counts.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "pyproject.toml" if "[project]" in requirements else "requirements.in")
        output = Path(folder, "lock.txt")
        source.write_text(requirements, encoding="utf-8")
        # uv keeps the pins of the file that it writes.
        output.write_text("".join(prefer), encoding="utf-8")
        options = ["--no-config", "--quiet", "--generate-hashes", "--no-annotate", "--no-header"]
        command = ["uv", "pip", "compile", *options, *arguments, f"--output-file={output}", str(source)]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        text = output.read_text(encoding="utf-8")
    # `===` excludes a local build such as 2.13.0+cpu, which pip ranks above the release itself.
    text = re.sub(r"^torch==", "torch===", text, flags=re.MULTILINE)
    entries: Entries = {}
    for entry in re.split(r"^(?=\w)", text, flags=re.MULTILINE):
        if entry.strip():
            name = re.split("=", entry)[0]
            entries[name] = entries.get(name, "") + entry
    return entries


def torch_names(entries: Entries) -> set[str]:
    """Returns torch and the packages that only torch depends on."""
    return {"torch", "triton", *(name for name in entries if name.startswith(("nvidia-", "cuda-")))}


def write(name: str, entries: Entries, names: Iterable[str]) -> None:
    """Writes the lock of some packages."""
    (LOCK / f"{name}.txt").write_text(HEADER + "".join(entries[key] for key in sorted(names)), encoding="utf-8")


def version(entry: str) -> str:
    """Returns the version of a pin."""
    return re.split(r"={2,3}|[\s;]", entry)[1]


if __name__ == "__main__":
    main("--upgrade" in sys.argv[1:])
