"""Spends less time on garbage collection in processes that import large libraries and end soon."""

from __future__ import annotations

import atexit
import gc

_THRESHOLD = 2_000_000  # torch, transformers and MLflow together create half as many objects


def collect_rarely() -> None:
    """Makes collections rare, for a process whose objects are mostly those of imported libraries.

    Do not use it in a process that trains: cyclic garbage could hold memory of a GPU.
    """
    gc.set_threshold(_THRESHOLD, 10, 10)
    skip_collection_at_exit()


def skip_collection_at_exit() -> None:
    """Makes the interpreter end without a search for cyclic garbage, which takes a second with torch and MLflow."""
    atexit.register(gc.freeze)
