"""The one failure type: what went wrong, where, and what to do about it.

It travels from the process of a step to the command line, the notice and MLflow, and keeps its exit code on the way.
"""

from __future__ import annotations

from enum import IntEnum

from components.shared.base.redact import redact


class ExitCode(IntEnum):
    """Exit codes of the command line and of every step."""

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
    """A failure that a person can act on.

    Args:
        what: what is wrong, with the value seen, as the start of a sentence, no full stop.
        where: the file, address, setting or step that it is about.
        remedy: what to do next, no full stop.
        exit_code: the exit code of the process that it ends.
    """

    def __init__(self, what: str, *, where: str, remedy: str, exit_code: ExitCode = ExitCode.FAILED):
        # Here, once: a failure reaches logs, tags, notices and screens, and often quotes an address or a library.
        self.what, self.where, self.remedy = redact(what), redact(where), redact(remedy)
        self.exit_code = ExitCode(exit_code)
        super().__init__(self.what, self.where, self.remedy, exit_code)

    def __str__(self) -> str:
        return f"{self.what} ({self.where}): {self.remedy}."

    def __reduce__(self) -> tuple:  # an exception is pickled by its arguments, which knows no keywords
        return _unpickled, (type(self), self.what, self.where, self.remedy, self.exit_code)

    def to_dict(self) -> dict[str, str | int]:
        """The failure as plain JSON values, for an event or a tag."""
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
    """The step was interrupted; the same run, started again, resumes from what was saved."""

    def __init__(self, what: str, *, where: str, remedy: str = "start the same run again to resume it"):
        super().__init__(what, where=where, remedy=remedy, exit_code=ExitCode.RESUMABLE)


class Damaged(Failure):
    """What is stored is not what was stored: it can be removed and made anew, and no other failure says so."""


def _unpickled(kind: type[Failure], what: str, where: str, remedy: str, exit_code: ExitCode) -> Failure:
    failure = kind.__new__(kind)
    Failure.__init__(failure, what, where=where, remedy=remedy, exit_code=exit_code)
    return failure
