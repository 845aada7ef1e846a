"""Writes the lock files of the images from the direct dependencies in pyproject.toml and docker/lock/mlflow.in.

    python docker/lock.py [CONSTRAINTS]     needs `uv` on the PATH and the package index, once per upgrade

CONSTRAINTS is a file of pins that are kept, for example `pip freeze --exclude-editable` of the environment in which the
tests passed. Without it every package is upgraded to the newest release that pyproject.toml allows.

    app.txt      every package that the step images share, which excludes torch and what only its CUDA build needs
    torch.txt    the CPU build of torch, without a hash, because the wheel depends on the index given at build time
    cuda.txt     the default build of torch and its CUDA libraries
    mlflow.txt   the MLflow server
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

LOCK = Path(__file__).parent / "lock"
PROJECT = Path(__file__).parents[1] / "pyproject.toml"
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
HEADER = "# Written by docker/lock.py: change pyproject.toml and run it again.\n"


def main(constraints: Path | None) -> None:
    keep = _without(constraints, {"torch"})
    full = _compile(PROJECT.read_text(encoding="utf-8"), "pyproject.toml", keep)
    server = _compile((LOCK / "mlflow.in").read_text(encoding="utf-8"), "mlflow.in", keep)
    cuda = _cuda_names(full)
    _write("app", full, full.keys() - cuda)
    _write("cuda", full, cuda)
    _write("mlflow", server, server.keys() - CLIENT_ONLY)
    (LOCK / "torch.txt").write_text(f"{HEADER}torch=={_version(full['torch'])}\n", encoding="utf-8")


def _compile(requirements: str, name: str, constraints: str) -> dict[str, str]:
    """Returns every package that the requirements need on Linux: its pin and hashes by its name."""
    with tempfile.TemporaryDirectory() as folder:
        source, keep = Path(folder, name), Path(folder, "constraints.txt")
        source.write_text(requirements, encoding="utf-8")
        keep.write_text(constraints, encoding="utf-8")
        command = f"uv pip compile --no-config --quiet --generate-hashes --no-annotate --no-header -c {keep} {source}"
        platform = "--python-version 3.11 --python-platform x86_64-manylinux_2_28"
        compiler = [*command.split(), *platform.split()]
        done = subprocess.run(compiler, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    # `===` excludes a local build such as 2.13.0+cpu, which pip ranks above the release itself.
    text = re.sub(r"^torch==", "torch===", done.stdout, flags=re.MULTILINE)
    return {re.split("=", entry)[0]: entry for entry in re.split(r"^(?=\S)", text, flags=re.MULTILINE) if entry.strip()}


def _cuda_names(full: dict[str, str]) -> set[str]:
    """Returns torch and the packages that only torch depends on."""
    return {"torch", "triton", *(name for name in full if name.startswith(("nvidia-", "cuda-")))}


def _write(name: str, entries: dict[str, str], names: set[str]) -> None:
    (LOCK / f"{name}.txt").write_text(HEADER + "".join(entries[key] for key in sorted(names)), encoding="utf-8")


def _version(entry: str) -> str:
    return entry.split()[0].rpartition("=")[2]


def _without(constraints: Path | None, names: set[str]) -> str:
    lines = constraints.read_text(encoding="utf-8").splitlines() if constraints else []
    return "\n".join(line for line in lines if line.partition("==")[0].lower() not in names)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
