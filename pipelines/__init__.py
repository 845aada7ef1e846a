import os
import sys

# `python -m pipelines.cli` puts the working folder first among the places of modules, and any file of a module's name
# there would be imported in its stead. Where that folder is the one of this code, it has to stay.
_ROOT = os.path.dirname(os.path.dirname(__file__))  # noqa: PTH120 -- pathlib itself imports modules that may be shadowed
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path and sys.path[0] != _ROOT:
    del sys.path[0]
