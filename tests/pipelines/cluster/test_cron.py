"""Cron expressions: six fields, seconds first, in words, with their times."""

from datetime import UTC, datetime

import pytest

from components.shared.base.failure import ExitCode, Failure
from pipelines.cluster.cron import parse

SUNDAY = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "words", "first", "last"),
    [
        ("0 0 2 * * *", "At 02:00 every day", "2026-11-23T02:00:00", "2026-11-22T02:00:00"),
        ("0 0 2 ? * ?", "At 02:00 every day", "2026-11-23T02:00:00", "2026-11-22T02:00:00"),
        ("0 30 1 * * 1-5", "At 01:30 on Monday through Friday", "2026-11-23T01:30:00", "2026-11-20T01:30:00"),
        ("30 0 2 * * MON,WED", "At 02:00:30 on Monday and Wednesday", "2026-11-23T02:00:30", "2026-11-18T02:00:30"),
        ("0 0 */6 * * *", "At minute 0 past every sixth hour", "2026-11-22T18:00:00", "2026-11-22T12:00:00"),
        ("0 0 3 1 JAN *", "At 03:00 on January 1", "2027-01-01T03:00:00", "2026-01-01T03:00:00"),
    ],
)
def test_words_and_times(expression, words, first, last):
    cron = parse(expression)
    assert cron.words == words
    assert cron.next_times(SUNDAY)[0].isoformat() == f"{first}+00:00"
    assert cron.last_time(SUNDAY).isoformat() == f"{last}+00:00"


def test_the_next_three_times():
    times = parse("0 0 2 * * *").next_times(SUNDAY)
    assert [time.isoformat() for time in times] == [f"2026-11-{day}T02:00:00+00:00" for day in (23, 24, 25)]


def test_times_in_the_zone_of_the_server():
    (first,) = parse("0 0 2 * * *", "Europe/Berlin").next_times(SUNDAY, count=1)
    assert first.isoformat() == "2026-11-23T02:00:00+01:00"


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("0 2 * * *", r"has five fields, and Kubeflow Pipelines wants six, seconds first .*: write '0 0 2 \* \* \*'"),
        ("@daily", "has 1 field, not six"),
        ("0 0 2 * * * 2026", "has 7 fields, not six"),
        ("", "has 0 fields, not six"),
        ("0 0 25 * * *", "cannot be read: the hours must be from 0 to 23, got 25; the nearest is 23"),
        ("0 0 2 30 2 *", "cannot be read: bad day-of-month"),
        ("0 0 2 L * *", "'L' for the day of month, which the server does not read"),
        ("0 0 2 * * 1#2", "'1#2' for the day of week, which the server does not read"),
        ("0 0 2 * * 7", "'7' for the day of week, which the server does not read"),
        ("0 0 two * * *", "'two' for the hours, which the server does not read"),
        ("0 0 */0 * * *", "the step of the hours must be from 1 to 59, got 0; the nearest is 1"),
    ],
)
def test_what_the_server_would_misread_is_refused(expression, sentence):
    with pytest.raises(Failure, match=sentence) as caught:
        parse(expression)
    assert caught.value.exit_code is ExitCode.USAGE
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "../etc/passwd", ""])
def test_an_unknown_time_zone(zone):
    with pytest.raises(Failure, match="There is no time zone"):
        parse("0 0 2 * * *", zone)
