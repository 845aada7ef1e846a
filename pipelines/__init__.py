import os
import sys

# `python -m pipelines.cli` puts the working folder first in `sys.path`, so that a file there could shadow a module. It
# stays if it is the root of this code.
_ROOT = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120 -- pathlib itself imports modules that may be shadowed
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and sys.path[0] != _ROOT:
    del sys.path[0]
