"""Suggests the known word that is nearest to an unknown one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_LONGEST = 100  # characters; a comparison of longer words takes seconds and finds nothing


def nearest(word: str, known: Iterable[str], cutoff: float = 0.0) -> str | None:
    """The known word nearest to `word`, ignoring case; None if no similarity reaches `cutoff`, from 0 to 1."""
    by_folded = {name.casefold(): name for name in known}
    found = get_close_matches(word[:_LONGEST].casefold(), by_folded, n=1, cutoff=cutoff)
    return by_folded[found[0]] if found else None
