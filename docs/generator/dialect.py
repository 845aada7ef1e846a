"""What GitHub reads otherwise than MkDocs does: warnings, and vertical bars in the code of a table."""

from __future__ import annotations

import re

_QUOTE = re.compile(r"^>(?: ?\[!(WARNING|NOTE)\]| \*\*(Warning|Note)\.?\*\*) ?(.*(?:\n>.*)*)", re.MULTILINE)


def in_mkdocs_dialect(markdown: str) -> str:
    """The text of a page that is written for GitHub, as MkDocs needs it."""
    rows = re.sub(r"^\|.*\|$", lambda row: _bars_in_code(row[0]), markdown, flags=re.MULTILINE)
    return _QUOTE.sub(_admonition, rows)


def _bars_in_code(row: str) -> str:
    """The row of a table without the backslashes that GitHub needs before a bar in code, and that MkDocs would show."""
    return re.sub(r"`[^`]*`", lambda code: code[0].replace(r"\|", "|"), row)


def _admonition(quote: re.Match[str]) -> str:
    kind = (quote[1] or quote[2]).lower()
    lines = [re.sub(r"^> ?", "", line) for line in quote[3].strip("\n").split("\n")]
    return "\n".join([f"!!! {kind}", "", *(f"    {line}".rstrip() for line in lines)])
