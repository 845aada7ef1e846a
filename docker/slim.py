"""Takes out of an environment what running never reads, then compiles the rest: `python slim.py /opt/venv`.

Gone are the packages' own tests, C++ headers, static libraries and CMake files; torch's headers are the Dockerfile's
matter, since images with a compiler need them. Byte-code is kept, and made once: without it the imports of a step take
twice as long, and a container with a read-only root could never write it. It is marked as valid whatever the dates of
the files, which copies between the layers of an image may change.
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
