"""The failure type of the project: the problem, its place and the remedy.

A failure is passed from the process of a step to the command line, the notification and MLflow with its exit code.
"""

from __future__ import annotations

from enum import IntEnum

from components.shared.base.redact import redact


class ExitCode(IntEnum):
    """Exit codes of the command line and of every step.

    Attributes:
        OK: success, also of a run that found nothing to train.
        FAILED: a failure that has no other code.
        USAGE: a wrong option, setting or variable.
        UNREACHABLE: a service cannot be reached, such as the store, MLflow, the Hub or the cluster.
        CANCELLED: somebody cancelled the run.
        TIMED_OUT: a wait ended too early: for the end of a run, which continues, or for the holder of a lock.
        UNAUTHORISED: a service does not accept the credentials.
        RESUMABLE: the run was interrupted, and the same command resumes it.
        CTRL_C: Ctrl-C ended the command.
    """

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    CANCELLED = 4
    TIMED_OUT = 5
    UNAUTHORISED = 6
    RESUMABLE = 75
    CTRL_C = 130


class Failure(Exception):
    """An error that a person can act on.

    Args:
        what: the problem with the value seen, as the start of a sentence without a full stop.
        where: the file, address, setting or step that the failure concerns.
        remedy: the next action for the reader, without a full stop.
        exit_code: the exit code of the process that the failure ends.
    """

    def __init__(self, what: str, *, where: str, remedy: str, exit_code: ExitCode = ExitCode.FAILED):
        # Redacted here, once: a failure reaches logs, tags, notifications and screens, and often quotes an address or
        # the message of a library.
        self.what, self.where, self.remedy = redact(what), redact(where), redact(remedy)
        self.exit_code = ExitCode(exit_code)
        super().__init__(self.what, self.where, self.remedy, exit_code)

    def __str__(self) -> str:
        return f"{self.what} ({self.where}): {self.remedy}."

    def __reduce__(self) -> tuple:  # by default an exception is pickled with positional arguments only
        return _unpickled, (type(self), self.what, self.where, self.remedy, self.exit_code)

    def to_dict(self) -> dict[str, str | int]:
        """The failure as JSON values, for an event or a tag."""
        return {"what": self.what, "where": self.where, "remedy": self.remedy, "exit_code": int(self.exit_code)}

    @classmethod
    def from_dict(cls, fields: dict) -> Failure:
        """The inverse of `to_dict`."""
        return cls(
            str(fields["what"]),
            where=str(fields["where"]),
            remedy=str(fields["remedy"]),
            exit_code=ExitCode(int(fields["exit_code"])),
        )


class Interrupted(Failure):
    """The step was interrupted; starting the same run again resumes it from its last checkpoint."""

    def __init__(self, what: str, *, where: str, remedy: str = "start the same run again to resume it"):
        super().__init__(what, where=where, remedy=remedy, exit_code=ExitCode.RESUMABLE)


class Damaged(Failure):
    """A stored object is corrupted: it can be deleted and made again. No other failure implies this."""


def first_line(message: object, otherwise: str = "no message") -> str:
    """The first line of the message of an exception or another program; `otherwise` if it is empty."""
    lines = str(message).strip().splitlines()
    return lines[0] if lines else otherwise


def variable_failure(what: str, remedy: str, exit_code: ExitCode = ExitCode.USAGE) -> Failure:
    """The failure for a variable of the environment that cannot be used."""
    return Failure(what, where="the environment", remedy=remedy, exit_code=exit_code)


def _unpickled(kind: type[Failure], what: str, where: str, remedy: str, exit_code: ExitCode) -> Failure:
    failure = kind.__new__(kind)
    Failure.__init__(failure, what, where=where, remedy=remedy, exit_code=exit_code)
    return failure
