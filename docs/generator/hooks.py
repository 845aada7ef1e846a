"""The hooks of MkDocs: they add the generated pages, rewrite the links to code, and refuse requests to other hosts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from docs.generator.commands_page import commands_page
from docs.generator.dialect import in_mkdocs_dialect
from docs.generator.environment_page import environment_page
from docs.generator.exit_codes_page import exit_codes_page
from docs.generator.links import PAGES, ROOT, BrokenLink, code_page, linked_code, rewrite, site_path
from docs.generator.settings_page import settings_page

_REFERENCE = {
    "reference/settings.md": settings_page,
    "reference/commands.md": commands_page,
    "reference/exit-codes.md": exit_codes_page,
    "reference/environment.md": environment_page,
}
# This is alone in its section, so that the list of its pages shows nothing.
_ALONE = ("index.md",)
# What a browser loads from another host as soon as it shows the page.
_LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\s\"'>]*"
    r"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect|icon|modulepreload))[^>]*\bhref=[\"']?(?:https?:)?//[^\s\"'>]*"
    r"|url\([\"']?(?:https?:)?//[^)]*|@import[^;]*//[^;]*"
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages outside docs/, the reference, and a page for each file of code that a page links to."""
    pages = [*PAGES, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    linked: set[str] = set()
    for page in pages:
        try:
            linked |= linked_code((ROOT / page).read_text(encoding="utf-8"), page)
        except BrokenLink as error:
            raise PluginError(str(error)) from None
    made = {site_path(page): (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
    made |= {site_path(path): code_page(path, linked) for path in sorted(linked)}
    made |= {name: page() for name, page in _REFERENCE.items()}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Rewrites links and warnings of the pages that people write."""
    name = page.file.src_uri
    if name in _ALONE:
        page.meta["hide"] = ["navigation"]
    if name.startswith(("source/", "reference/")):
        return markdown
    written = {site: path for path, site in PAGES.items()}.get(name, f"docs/{name}")
    return in_mkdocs_dialect(rewrite(markdown, written))


def on_post_build(config: MkDocsConfig) -> None:
    """Refuses a site whose pages or style sheets load something from another host."""
    for path in Path(config.site_dir).rglob("*"):
        if path.suffix not in (".html", ".css"):
            continue
        if found := _LOADED.search(path.read_text(encoding="utf-8")):
            raise PluginError(f"{path.relative_to(config.site_dir)} loads from another host: {found[0]}")
