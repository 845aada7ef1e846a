"""Warnings of the pages: GitHub reads a quotation that begins with `[!WARNING]`, and MkDocs reads `!!! warning`."""

from __future__ import annotations

import re

_QUOTE = re.compile(r"^>(?: ?\[!(WARNING|NOTE)\]| \*\*(Warning|Note)\.?\*\*) ?(.*(?:\n>.*)*)", re.MULTILINE)


def as_admonitions(markdown: str) -> str:
    """The text of a page with its warnings in the syntax of MkDocs."""
    return _QUOTE.sub(_admonition, markdown)


def _admonition(quote: re.Match[str]) -> str:
    kind = (quote[1] or quote[2]).lower()
    lines = [re.sub(r"^> ?", "", line) for line in quote[3].strip("\n").split("\n")]
    return "\n".join([f"!!! {kind}", "", *(f"    {line}".rstrip() for line in lines)])
