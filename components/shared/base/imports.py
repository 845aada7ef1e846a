"""Imports a library without packages that it imports if they are installed, but that its caller does not need."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*packages: str) -> Iterator[None]:
    """Makes packages seem absent to imports within the block, unless they are imported already.

    An entry None in `sys.modules` makes Python raise ModuleNotFoundError. No other thread may import them meanwhile.

    Args:
        packages: the names of packages that are optional for every library that the block imports.
    """
    absent = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
