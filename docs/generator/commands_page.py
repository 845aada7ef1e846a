"""The page of all commands, from the Typer application."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer

from docs.generator.markdown import code, summary, table
from pipelines.cli.app import app

_INTRODUCTION = """# Commands

`wikigpt COMMAND --help` shows the same on a terminal. A variable of the environment that an option names is used if the
option is not given. [Exit codes](exit-codes.md) and [environment variables](environment.md) have their own pages.
"""


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its full name, such as `wikigpt schedule apply`."""
    yield from _within("wikigpt", typer.main.get_command(app))


def commands_page() -> str:
    """The page, with the usage, the arguments and the options of each command."""
    return "\n".join([_INTRODUCTION, *(_command(name, command) for name, command in commands())])


def _within(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    for each, below in getattr(command, "commands", {}).items():
        if hasattr(below, "commands"):
            yield from _within(f"{name} {each}", below)
        elif not below.hidden:
            yield f"{name} {each}", below


def _command(name: str, command: Any) -> str:
    shown = [parameter for parameter in command.params if not parameter.hidden]
    arguments = [parameter for parameter in shown if parameter.param_type_name == "argument"]
    usage = " ".join([name, *(_argument(each) for each in arguments), "[OPTIONS]"])
    rows = [[_names(each), _default(each), _meaning(each)] for each in shown]
    listed = table(("argument or option", "default", "meaning"), rows) if rows else ""
    return f"## {code(name)}\n\n{summary(inspect.cleandoc(command.help or ''))}\n\n```text\n{usage}\n```\n\n{listed}"


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.required else f"[{name}]"


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return code(_argument(parameter))
    value = "" if parameter.is_flag else f" {parameter.metavar or _value_name(parameter)}"
    return ", ".join(code(f"{option}{value}") for option in [*parameter.opts, *parameter.secondary_opts])


def _value_name(parameter: Any) -> str:
    """The name of the value of an option: that of the option without dashes."""
    return max(parameter.opts, key=len).lstrip("-").replace("-", "_").upper()


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if parameter.default in (None, False):
        return ""
    if getattr(parameter, "is_flag", False) and parameter.secondary_opts:  # an argument is no flag
        return code(parameter.opts[0])
    return code(str(parameter.default))


def _meaning(parameter: Any) -> str:
    variable = f" Variable: {code(parameter.envvar)}." if parameter.envvar else ""
    return f"{parameter.help or ''}{variable}"
