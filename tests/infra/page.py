"""The commands in a page of docs/."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import typer

from pipelines.cli.app import app

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`((?:wikigpt|kubectl) [^`]+)`")
_COMMAND = typer.main.get_command(app)
WrongUsage = typer.BadParameter.__base__


def text_of(page: str) -> str:
    """The text of a page without the marks of its figures."""
    return re.sub(r"<!-- (?:figure: .*?|end) -->", "", (DOCS / page).read_text())


def section(page: str, title: str) -> str:
    """The text below a heading of the second level."""
    (found,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text_of(page), re.MULTILINE | re.DOTALL)
    return found


def shell_blocks(text: str) -> list[str]:
    return _BLOCK.findall(text)


def commands(text: str, program: str) -> list[list[str]]:
    """Every command of a program in the shell blocks, split into words like in a shell."""
    lines = "\n".join(shell_blocks(text)).replace("\\\n", " ").splitlines()
    typed = [shlex.split(line, comments=True) for line in _joined(lines)]
    return [_until_the_end(words) for words in typed if words[:1] == [program]]


def mentioned(text: str, program: str) -> list[list[str]]:
    """Every command of a program between backticks in the running text."""
    named = [shlex.split(command.replace("\\|", "|")) for command in _INLINE.findall(text)]
    return [_until_the_end(words) for words in named if words[0] == program]


def parse(words: list[str]) -> None:
    """Parses the arguments of a command line without running it.

    Raises:
        WrongUsage: there is no such command or option, or a value is missing.
    """
    command, rest = _COMMAND, words[1:]
    if rest == ["--help"]:
        return
    while hasattr(command, "commands"):
        if not rest or rest[0] not in command.commands:
            raise WrongUsage(f"no command {rest[:1]}")
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context(words[0], list(rest))


def _until_the_end(words: list[str]) -> list[str]:
    end = next((number for number, word in enumerate(words) if word in ("&", "|", "&&", ";")), len(words))
    return words[:end]


def _joined(lines: list[str]) -> list[str]:
    """Lines; those of one quotation are joined."""
    whole: list[str] = []
    open_line = ""
    for line in lines:
        open_line = f"{open_line}\n{line}" if open_line else line
        try:
            shlex.split(open_line, comments=True)
        except ValueError:
            continue
        whole.append(open_line)
        open_line = ""
    return whole
