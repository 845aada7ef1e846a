"""Cron expressions of schedules: six fields, seconds first, as Kubeflow Pipelines parses them.

The server also accepts five fields and parses them from the seconds on: `0 2 * * *` would then run every hour, at two
minutes past. So five fields are refused here. cronsim parses the expression, and syntax that robfig/cron, the parser of
the server, does not know is refused too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from components.shared.base.failure import ExitCode, Failure
from components.shared.base.ranges import Range, safe_repr

FIELDS = {
    "seconds": Range(0, 59),
    "minutes": Range(0, 59),
    "hours": Range(0, 23),
    "day of month": Range(1, 31),
    "month": Range(1, 12),
    "day of week": Range(0, 6),
}
_STEP = Range(1, 59)
_FIELD = re.compile(r"[A-Z0-9*?/,-]{1,400}")
_FOREIGN = re.compile(r"L|W|#")
_NAMES = re.compile(r"SUN|MON|TUE|WED|THU|FRI|SAT|JAN|FEB|MAR|APR|MAY|JUN|JUL|AUG|SEP|OCT|NOV|DEC")


@dataclass(frozen=True)
class Cron:
    """A checked expression.

    Attributes:
        expression: the expression as in the file.
        time_zone: the time zone of the server, which CRON_SCHEDULE_TIMEZONE sets for all its schedules.
    """

    expression: str
    time_zone: str = "UTC"

    @property
    def words(self) -> str:
        """The expression in words, as in `At 02:00 every day`."""
        return CronSim(_readable(self.expression), datetime.now(UTC)).explain()

    def next_times(self, after: datetime, count: int = 3) -> list[datetime]:
        """The next times after a moment, in the schedule's time zone."""
        return list(islice(CronSim(_readable(self.expression), self._local(after)), count))

    def last_time(self, before: datetime) -> datetime:
        """The last time at or before a moment, in the schedule's time zone."""
        return next(CronSim(_readable(self.expression), self._local(before) + timedelta(seconds=1), reverse=True))

    def _local(self, moment: datetime) -> datetime:
        return moment.astimezone(UTC if self.time_zone == "UTC" else ZoneInfo(self.time_zone))


def parse(expression: str, time_zone: str = "UTC", *, where: str = "cron", zone_at: str = "time_zone") -> Cron:
    """Checks an expression.

    Raises:
        Failure: it does not have six fields, a field cannot be parsed, no time matches it, or the time zone is unknown.
    """
    fields = expression.split()
    if len(fields) == 5:
        raise _wrong(
            f"The cron {safe_repr(expression)} has five fields, and Kubeflow Pipelines wants six, seconds first",
            f"write {safe_repr('0 ' + expression)}",
            where,
        )
    if len(fields) != 6:
        raise _wrong(
            f"The cron {safe_repr(expression)} has {len(fields)} field{'s' * (len(fields) != 1)}, not six",
            f"write {', '.join(FIELDS)}, as in '0 0 2 * * *' for 02:00 every day",
            where,
        )
    for name, text in zip(FIELDS, fields, strict=True):
        bare = _NAMES.sub("", text.upper())
        seventh_day = name == "day of week" and any("7" in term.split("/")[0] for term in bare.split(","))
        if not _FIELD.fullmatch(text.upper()) or _FOREIGN.search(bare) or seventh_day:
            raise _wrong(
                f"The cron {safe_repr(expression)} has {safe_repr(text)} for the {name}, which the server"
                " does not read",
                "write numbers, names (MON, JAN), *, ranges, lists and steps; Sunday is 0",
                where,
            )
        for slash, digits in re.findall(r"(/?)([0-9]+)", bare):
            if problem := (_STEP if slash else FIELDS[name]).problem(int(digits)):
                field = f"step of the {name}" if slash else name
                what = f"The cron {safe_repr(expression)} cannot be read: the {field} {problem}"
                raise _wrong(what, "correct that field", where)
    try:
        next(CronSim(_readable(expression), datetime.now(UTC)))
    except (CronSimError, StopIteration) as error:
        why = str(error)[:1].lower() + str(error)[1:] or "no time matches it"
        raise _wrong(f"The cron {safe_repr(expression)} cannot be read: {why}", "correct that field", where) from None
    try:
        ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # of a folder of zones, such as Europe, OSError
        raise _wrong(
            f"There is no time zone {safe_repr(time_zone)}", "write it as Europe/Berlin or UTC", zone_at
        ) from None
    return Cron(expression, time_zone)


def _readable(expression: str) -> str:
    """The server reads `?` as `*`."""
    return " ".join("*" if field == "?" else field for field in expression.split())


def _wrong(what: str, remedy: str, where: str) -> Failure:
    return Failure(what, where=where, remedy=remedy, exit_code=ExitCode.USAGE)
