"""A digest of source code that ignores edits that cannot change a result.

The digest covers the syntax trees. It ignores comments, docstrings, annotations of functions, imports for the type
checker, calls that only print (`emit`, `print`), and the arguments of raised exceptions.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
_REPORTING_CALLS = {"emit", "print"}
_IGNORED_IMPORTS = {"components.shared.base.events", "components.shared.base.failure", "__future__"}
# Fields of a node that are never hashed: its parent implies `ctx`, and only type checkers read the others.
_IGNORED_FIELDS = {"ctx", "kind", "type_comment", "type_ignores", "returns"}


def code_of(*modules: Path | str, root: Path = ROOT) -> str:
    """sha256 (hex) of the names and the syntax trees of modules, see `meaning`.

    Args:
        modules: files, or folders with all of their `.py` files, relative to `root`.
        root: the folder above `components`.
    """
    return _digest(tuple(sorted(_files(modules, root))), root)


def meaning(source: str) -> str:
    """The part of a module's syntax tree that can change a result, as text. It is equal in every Python since 3.11.

    Raises:
        SyntaxError: the source is not valid Python.
    """
    parts: list[str] = []
    _write(ast.parse(source), parts)
    return "".join(parts)


def _files(modules: Iterable[Path | str], root: Path) -> Iterable[Path]:
    for module in modules:
        path = root / module
        yield from path.rglob("*.py") if path.is_dir() else [path]


@cache
def _digest(files: tuple[Path, ...], root: Path) -> str:
    """Computes the digest of files, cached because the source of a running process does not change."""
    sha = hashlib.sha256()
    for file in files:
        name = file.relative_to(root).as_posix()
        sha.update(f"{name}\0{meaning(file.read_text(encoding='utf-8'))}\0".encode())
    return sha.hexdigest()


def _write(value: Any, parts: list[str]) -> None:
    if isinstance(value, ast.AST):
        parts.append(type(value).__name__ + "(")
        for name in value._fields:
            inner = getattr(value, name, None)
            if name in _IGNORED_FIELDS or inner is None or (isinstance(value, ast.arg) and name == "annotation"):
                continue
            if isinstance(value, ast.Raise) and name == "exc" and isinstance(inner, ast.Call):
                inner = inner.func
            if isinstance(inner, list) and (inner and isinstance(inner[0], ast.stmt)):
                inner = [statement for statement in inner if not _is_irrelevant(statement)]
            if inner != []:  # later Python releases add fields, which are empty by default
                parts.append(name + "=")
                _write(inner, parts)
        parts.append(")")
    elif isinstance(value, list):
        parts.append("[")
        for each in value:
            _write(each, parts)
        parts.append("]")
    else:
        parts.append(f"{value!r},")


def _is_irrelevant(statement: ast.stmt) -> bool:
    """Whether a statement can be left out without changing any result."""
    if isinstance(statement, ast.Expr):
        called = statement.value.func if isinstance(statement.value, ast.Call) else None
        return isinstance(statement.value, ast.Constant) or (
            isinstance(called, ast.Name) and called.id in _REPORTING_CALLS
        )
    if isinstance(statement, ast.ImportFrom):
        return statement.module in _IGNORED_IMPORTS
    if isinstance(statement, ast.If) and not statement.orelse:
        if isinstance(statement.test, ast.Name) and statement.test.id == "TYPE_CHECKING":
            return True
        pure = not any(isinstance(node, ast.Call | ast.NamedExpr) for node in ast.walk(statement.test))
        return pure and all(map(_is_irrelevant, statement.body))
    return isinstance(statement, ast.Pass)
