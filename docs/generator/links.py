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
    here = posixpath.dirname(site_path(page))
    return _replace(markdown, page, lambda target: posixpath.relpath(site_path(target), here or "."))


def linked_code(markdown: str, page: str) -> set[str]:
    """The paths in the repository of the files and folders that a page links to and that are no pages."""
    found: list[str] = []
    _replace(markdown, page, lambda target: found.append(target) or target)  # type: ignore[func-returns-value]
    return {target for target in found if site_path(target).startswith("source/")}


def site_path(path: str) -> str:
    """The path on the site, as MkDocs names sources, of a file of the repository."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/") and not path.endswith(".py"):
        return path.removeprefix("docs/")
    return f"source/{path}.md"


def code_page(path: str, linked: set[str]) -> str:
    """The page of a file with its text, or of a folder with all files in it.

    Args:
        path: the path in the repository.
        linked: the paths that have such a page.
    """
    front = "---\nsearch:\n  exclude: true\nhide:\n  - navigation\n---\n\n"
    target = ROOT / path
    if target.is_dir():
        lines = [f"- {_name(each, path, linked)}{_description(ROOT / each)}" for each in _files(target)]
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


def _files(folder: Path) -> list[str]:
    """The paths in the repository of the files in a folder, without empty modules."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not _HIDDEN & set(path.parts))
    return [path.relative_to(ROOT).as_posix() for path in paths if path.stat().st_size]


def _name(path: str, folder: str, linked: set[str]) -> str:
    shown = f"`{path.removeprefix(folder + '/')}`"
    return f"[{shown}]({posixpath.relpath(site_path(path), f'source/{folder}/..')})" if path in linked else shown


def _description(path: Path) -> str:
    """The first line of the docstring of a module, after a colon; "" without one."""
    if path.suffix != ".py":
        return ""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    return f": {docstring.splitlines()[0]}" if docstring else ""
