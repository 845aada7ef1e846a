"""Removes the files of an environment that are not read at run time and compiles the rest: `python slim.py /opt/venv`.

It removes the packages' tests, C++ headers, static libraries and CMake files. The Dockerfile handles torch's headers,
because images with a compiler need them. It writes byte-code once: without byte-code the imports of a step take twice
as long, and a container with a read-only root could never write it. The byte-code is marked as valid regardless of
file times, because copying between the layers of an image may change them.
"""

import compileall
import shutil
import sys
from pathlib import Path
from py_compile import PycInvalidationMode

TESTS = ("matplotlib", "networkx", "numpy", "pandas", "psutil", "pyarrow", "scipy", "sklearn", "sympy", "joblib")
DEVELOPMENT = (
    "numpy/_core/include",
    "pyarrow/include",
    "pyarrow/src",
    "torch/share/cmake",
    "torch/test",
)
ONLY_TORCH_RUNS = "torch_shm_manager"


def main(environment: Path) -> None:
    (packages,) = environment.glob("lib/python3.*/site-packages")
    for name in TESTS:
        for folder in sorted((packages / name).rglob("tests")):
            shutil.rmtree(folder, ignore_errors=True)
    for name in DEVELOPMENT:
        shutil.rmtree(packages / name, ignore_errors=True)
    for path in (packages / "torch/bin").glob("*"):
        if path.is_file() and path.name != ONLY_TORCH_RUNS:
            path.unlink()
    for path in [*packages.glob("*/lib/*.a"), *packages.glob("pyarrow/*.a"), *packages.glob("*/*.pxd")]:
        path.unlink()
    compileall.compile_dir(packages, quiet=2, workers=0, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
