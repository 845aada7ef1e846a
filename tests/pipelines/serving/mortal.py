"""A client of the registry whose process may die directly after a write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Killed(BaseException):
    """The process is gone."""


class Mortal:
    """Passes everything on to a client, and calls a function after each write, which may raise `Killed`."""

    def __init__(self, client: Any, after_write: Callable[[], object]):
        self._client, self._after_write = client, after_write

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        if not name.startswith(("set_", "delete_")):
            return value

        def write(*args: Any) -> Any:
            answer = value(*args)
            self._after_write()
            return answer

        return write
