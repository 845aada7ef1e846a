"""The command `wikigpt`, which people and CI both use."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import typer

from components.shared.base.failure import ExitCode, Failure
from components.shared.base.garbage import collect_rarely
from components.shared.base.os_errors import is_known, os_failure
from components.shared.base.redact import redact
from pipelines.cli import (
    cluster,
    compiling,
    ensembling,
    environment,
    history,
    maintenance,
    mirroring,
    registry,
    rollout,
    running,
    serving,
    sweeping,
    verifying,
)
from pipelines.cli.encoding import require_text
from pipelines.cli.schedule import schedule
from pipelines.cli.screen import correct_widths
from pipelines.config.extras import missing_package
from pipelines.config.paths import require_working_folder
from pipelines.config.process_environment import complete_environment
from pipelines.config.utf8 import use_utf8

app = typer.Typer(
    name="wikigpt",
    help="Train Wiki-GPT on WikiText-2, evaluate it, register it, and promote it.",
    epilog="Start with `wikigpt run`: three minutes on a laptop. Exit codes: 0 done, 1 failed, 2 wrong usage,"
    " 3 a service cannot be reached, 4 cancelled, 5 timed out, 6 unauthorised, 75 interrupted and resumable,"
    " 130 Ctrl-C.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "run": running.run,
    "check": running.check,
    "sweep": sweeping.sweep,
    "models": registry.models,
    "history": history.history,
    "promote": registry.promote,
    "rollback": registry.rollback,
    "export": registry.export,
    "generate": registry.generate,
    "serve": serving.serve,
    "rollout": rollout.rollout,
    "ensemble": ensembling.ensemble,
    "verify": verifying.verify,
    "sign": verifying.sign,
    "compile": compiling.compile_pipeline,
    "submit": cluster.submit,
    "status": cluster.status,
    "logs": cluster.logs,
    "cancel": cluster.cancel,
    "mirror": mirroring.mirror,
    "gc": maintenance.gc,
    "reproduce": maintenance.reproduce,
    "doctor": environment.doctor,
    "ui": environment.ui,
}
for name, command in _COMMANDS.items():
    app.command(name)(command)
app.add_typer(schedule)


def main() -> None:
    """Runs the command. A failure becomes one sentence on stderr and an exit code."""
    collect_rarely()
    use_utf8()
    sys.excepthook = _show_unexpected
    correct_widths()
    try:
        require_text(sys.argv, os.environ)
        complete_environment()
        app()
    except Failure as failure:
        _end(failure)
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in ("", "components", "pipelines"):
            raise
        _end(missing_package(name))
    except OSError as error:
        if error.filename is None or not is_known(error):
            raise
        _end(os_failure(error, Path(os.fsdecode(error.filename)), what="Could not use a file"))
    except KeyboardInterrupt:
        sys.exit(int(ExitCode.CTRL_C))


@app.callback()
def _before_every_command() -> None:
    require_working_folder()


def _end(failure: Failure) -> None:
    print(f"wikigpt: {failure}", file=sys.stderr)
    sys.exit(int(failure.exit_code))


def _show_unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Prints an unexpected error and its traceback without the credentials that libraries quote in addresses."""
    print(redact("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr)


if __name__ == "__main__":
    main()
