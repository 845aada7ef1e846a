"""Links of the pages on the site: to other pages, and to code, of which the site gets a page for each linked file."""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Files outside docs/ that are pages of the site, and their names there.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s]+)(\))")
_FENCE = re.compile(r"(^(`{3,}).*?^\2`*$)", re.MULTILINE | re.DOTALL)
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".sql": "sql", ".json": "json"}
_HIDDEN = {"__pycache__", "__init__.py"}


class BrokenLink(Exception):
    """A page links to a file that does not exist."""


def rewrite(markdown: str, page: str) -> str:
    """The text of a page with links for the site.

    Args:
        markdown: the text.
        page: the path of the page in the repository, such as `docs/training.md`.

    Raises:
        BrokenLink: a link leads to no file.
    """
    here = posixpath.dirname(on_site(page))
    return _replace(markdown, page, lambda target: posixpath.relpath(on_site(target), here or "."))


def linked_code(markdown: str, page: str) -> set[str]:
    """The paths in the repository of the files and folders that a page links to and that are no pages."""
    found: list[str] = []
    _replace(markdown, page, lambda target: found.append(target) or target)  # type: ignore[func-returns-value]
    return {target for target in found if on_site(target).startswith("source/")}


def on_site(path: str) -> str:
    """The path on the site, as MkDocs names sources, of a file of the repository."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/") and not path.endswith(".py"):
        return path.removeprefix("docs/")
    return f"source/{path}.md"


def code_page(path: str) -> str:
    """The page of a file with its text, or of a folder with its entries."""
    front = "---\nsearch:\n  exclude: true\nhide:\n  - navigation\n---\n\n"
    target = ROOT / path
    if target.is_dir():
        entries = sorted(each for each in target.iterdir() if each.name not in _HIDDEN and each.name[0] != ".")
        lines = [f"- `{each.name}{'/' if each.is_dir() else ''}`{_description(each)}" for each in entries]
        return f"{front}# {path}/\n\n" + "\n".join(lines) + "\n"
    text = target.read_text(encoding="utf-8")
    return f"{front}# {path}\n\n``````{_LANGUAGES.get(target.suffix, 'text')}\n{text.rstrip()}\n``````\n"


def _replace(markdown: str, page: str, changed: Callable[[str], str]) -> str:
    def link(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        path, mark, anchor = target.partition("#")
        if not path or re.match(r"[a-z][a-z0-9+.-]*:", target):
            return match[0]
        whole = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        if whole.startswith("..") or not (ROOT / whole).exists():
            raise BrokenLink(f"{page} links to {target}, and there is no such file: fix the link")
        return f"{before}{changed(whole)}{mark}{anchor}{after}"

    parts = re.split(_FENCE, markdown)
    # The pattern has two groups, so each fenced block is followed by its marks.
    return "".join(
        _LINK.sub(link, part) if number % 3 == 0 else part for number, part in enumerate(parts) if number % 3 != 2
    )


def _description(path: Path) -> str:
    """The first line of the docstring of a module or package, after a colon; "" without one."""
    module = path / "__init__.py" if path.is_dir() else path
    if module.suffix != ".py" or not module.is_file():
        return ""
    docstring = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))
    return f": {docstring.splitlines()[0]}" if docstring else ""
