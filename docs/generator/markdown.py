"""Pieces of Markdown that the generated pages are made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table. Cells are Markdown on one line."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines) + "\n"


def code(text: str) -> str:
    """A text between backticks."""
    return f"`{text}`"


def summary(docstring: str | None) -> str:
    """The text of a docstring above its list of attributes, as paragraphs."""
    text = re.split(r"^ *(?:Args|Attributes|Raises|Returns):$", docstring or "", flags=re.MULTILINE)[0]
    return "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip())


def attributes(docstring: str | None) -> dict[str, str]:
    """The descriptions of attributes by name, from the list below `Attributes:`. Several names may share one."""
    _, _, listed = (docstring or "").partition("Attributes:\n")
    found: dict[str, str] = {}
    for entry in re.split(r"^ {4,8}(?=\S)", listed, flags=re.MULTILINE):
        names, colon, text = entry.partition(":")
        if colon:
            found |= dict.fromkeys((name.strip() for name in names.split(",")), " ".join(text.split()))
    return found


def _cell(text: str) -> str:
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else part.replace("|", r"\|") for part in parts)
