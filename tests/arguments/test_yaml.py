"""Profiles and schedules that cannot be read: one sentence, with the line."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.shared.base.failure import ExitCode, Failure
from pipelines.cluster.cron import parse
from pipelines.cluster.schedules import read_schedule, read_schedules
from pipelines.config.settings import load
from pipelines.config.yaml_text import InvalidYaml, parse_yaml

SCHEDULE = 'name: nightly\ncron: "0 0 2 * * *"\nprofile: nightly\n'
# The problem with a text of any kind, and its line.
WRONG = {
    "description: a\ndescription: b\n": "the key description of line 1 comes again in line 2",
    "train:\n  steps: 1\n  steps: 2\n": "the key steps of line 2 comes again in line 3",
    "a: {b: 1,\n b: 2}\n": "the key b of line 1 comes again in line 2",
    "1: x\n": "the key '1' is a number and needs quotes in line 1",
    "train:\n  2.5: x\n": "the key '2.5' is a number and needs quotes in line 2",
    "on: x\n": "the key 'on' is a boolean and needs quotes in line 1",
    "~: x\n": "the key '~' is nothing and needs quotes in line 1",
    "? [a, b]\n: x\n": "a key is a list or a mapping and must be text in line 1",
    "train: [\n": "in line 2",
    "a: 1\n b: 2\n": "mapping values are not allowed here in line 2",
    "a: 1\n---\nb: 2\n": "expected a single document in the stream but found another document in line 2",
    "a: \x01\n": "the character U+0001 must not stand in line 1",
    "a: 1\nb: !!timestamp 2026-01-01\n": "the tag !!timestamp is not known here, which is used in line 2",
    "a: !!python/object/apply:os.system [ls]\n": "is not known here, which is used in line 1",
    "a: !!binary aGk=\n": "the tag !!binary is not known here, which is used in line 1",
    "a: 1\nb: !!int x\n": "the value 'x' cannot be read as a number in line 2",
    f"a: 1\nb: {'9' * 5000}\n": "cannot be read as a number in line 2",
    'a: 1\nb: "\\ud800"\n': "contains a character that is not valid in text in line 2",
    'a: 1\nb: "\\0"\n': "contains a character that is not valid in text in line 2",
    "a: &x\n  b: *x\n": "an alias means what it is a part of in line 2",
    "a: *x\n": "found undefined alias 'x' in line 1",
    "a: " + "[" * 3000 + "\n": "it is nested too deeply",
}
# Ten aliases of ten aliases: more values than there is memory.
LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(9))


def refused(read, path: Path) -> Failure:
    with pytest.raises(Failure) as caught:
        read(path)
    assert caught.value.exit_code is ExitCode.USAGE
    assert "\n" not in str(caught.value)
    return caught.value


def profile(path: Path) -> None:
    load(str(path))


@pytest.mark.parametrize("read", [profile, read_schedule])
@pytest.mark.parametrize(("text", "sentence"), [*WRONG.items(), (LAUGHS, "more than 100,000 values")])
def test_a_text_that_is_no_yaml_of_ours(tmp_path: Path, read, text: str, sentence: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    failure = refused(read, path)
    assert sentence in failure.what
    assert failure.where.startswith(str(path))


@pytest.mark.parametrize("read", [profile, read_schedule])
@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("a: 1\ndescription: Grün\n".encode("latin-1"), "is not UTF-8: byte 0xfc in line 2"),
        ("a: 1\n".encode("utf-16"), "is not UTF-8: byte 0xff in line 1"),
        (b"", "is not YAML with keys"),
        (b"- a\n- b\n", "is not YAML with keys"),
        (b"# nothing\n", "is not YAML with keys"),
    ],
)
def test_bytes_that_are_no_text_and_text_without_keys(tmp_path: Path, read, data: bytes, sentence: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(data)
    assert sentence in refused(read, path).what


@pytest.mark.parametrize("read", [profile, read_schedule])
def test_a_folder_and_a_name_that_no_file_has(tmp_path: Path, read) -> None:
    (tmp_path / "mine.yaml").mkdir()
    assert "is a folder" in refused(read, tmp_path / "mine.yaml").what
    assert "There is no" in refused(read, tmp_path / "none.yaml").what
    assert "cannot be read: File name too long" in refused(read, tmp_path / f"{'x' * 300}.yaml").what
    assert len(str(refused(read, Path("x" * 9000 + ".yaml")))) < 600


@pytest.mark.parametrize("name", ["", ".", "QUICK", "x" * 9000, "quick\0", "quick.yaml/"])
def test_a_name_of_no_profile(name: str) -> None:
    failure = refused(load, name)
    assert len(str(failure)) < 600
    assert name.lower() != "quick" or "did you mean quick?" in failure.remedy


def test_a_mark_of_byte_order_and_merges_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xef\xbb\xbftrain:\n  <<: {steps: 1, seed: 5}\n  steps: 2\n")
    settings = load(str(path))
    assert (settings.train.steps, settings.train.seed) == (2, 5)


def test_a_date_is_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("description: 2026-11-23\ntrain: {steps: 1}\n")
    assert load(str(path), ["train.revision=2026-11-23"]).description == "2026-11-23"
    assert parse_yaml("2026-11-23 10:00:00") == "2026-11-23 10:00:00"
    path.write_text(SCHEDULE.replace("nightly", "2026-11-23", 1))
    assert read_schedule(path).name == "2026-11-23"


@pytest.mark.parametrize(
    ("text", "overrides", "what", "line"),
    [
        ("train:\n  steps: 1\n  seed: -1\n", [], "train.seed must be from 0", 3),
        ("train:\n  STEPS: 1\n", [], "There is no setting train.STEPS", 2),
        ("trian:\n  steps: 1\n", [], "There is no section 'trian'", 1),
        ("train: 5\n", [], "The section train of the profile holds no settings, got 5", 1),
        ("train:\n  steps: 1\ncluster:\n  train:\n    gpus: -1\n", [], "cluster.train.gpus must be from 0 to 64", 5),
        ("train:\n  steps: 1\ncluster:\n  train:\n    gpsu: 1\n", [], "cluster.train.gpsu: Unexpected", 5),
        ("train:\n  steps: 1\nevaluate:\n  window: 2048\n", [], "evaluate.window must be at most train.context", 4),
        ("train:\n  steps: 1\n  seed: -1\n", ["train.seed=-2"], "train.seed must be from 0", None),
        ("train:\n  steps: 1\n", ["train.seed=-2"], "train.seed must be from 0", None),
        ("train:\n  seed: 1\n", [], "train.steps, epochs or tokens must be set", None),
        ("train:\n", [], "train.steps, epochs or tokens must be set", None),
    ],
)
def test_a_wrong_setting_of_a_file_is_said_with_its_line(tmp_path: Path, text, overrides, what, line) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    failure = refused(lambda each: load(str(each), overrides), path)
    assert failure.what.startswith(what)
    assert failure.where == (f"{path}, line {line}" if line else f"settings of {what.partition('.')[0]}")


@pytest.mark.parametrize(
    ("change", "what", "line"),
    [
        (("profile:", "Profile:"), "A schedule has no key 'Profile'", 3),
        (("nightly", "5"), "The name of the schedule is 5, which is not text", 1),
        (('"0 0 2 * * *"', "0"), "The cron of the schedule is 0, which is not text", 2),
        (("nightly", "Every Night"), "The schedule cannot be called 'Every Night'", 1),
        (('"0 0 2 * * *"', '"0 0 24 * * *"'), "the hours must be from 0 to 23, got 24; the nearest is 23", 2),
        (("profile: nightly", "profile: nightly\ntime_zone: 1"), "The time zone of the schedule is 1", 4),
        (("profile: nightly", "profile: nightly\ntime_zone: Europe"), "There is no time zone 'Europe'", 4),
        (("profile: nightly", "profile: nightly\nparameters: [1]"), "The parameters of the schedule are [1]", 4),
    ],
)
def test_a_wrong_key_of_a_schedule_is_said_with_its_line(tmp_path: Path, change, what, line) -> None:
    path = tmp_path / "nightly.yaml"
    path.write_text(SCHEDULE.replace(*change, 1))
    failure = refused(read_schedule, path)
    assert what in failure.what
    assert failure.where == f"{path}, line {line}"


def test_schedules_may_end_in_yml(tmp_path: Path) -> None:
    (tmp_path / "nightly.yml").write_text(SCHEDULE)
    (tmp_path / "weekly.yaml").write_text(SCHEDULE.replace("name: nightly", "name: weekly"))
    (tmp_path / "readme.txt").write_text("no schedule")
    assert [schedule.name for schedule in read_schedules(tmp_path)] == ["nightly", "weekly"]


@pytest.mark.parametrize(
    ("expression", "zone", "sentence"),
    [
        ("60 0 2 * * *", "UTC", "the seconds must be from 0 to 59, got 60; the nearest is 59"),
        ("0 0 2 0 * *", "UTC", "the day of month must be from 1 to 31, got 0; the nearest is 1"),
        ("0 0 2 * 13 *", "UTC", "the month must be from 1 to 12, got 13; the nearest is 12"),
        ("0 */0 2 * * *", "UTC", "the step of the minutes must be from 1 to 59, got 0; the nearest is 1"),
        (f"0 0 {'9' * 5000} * * *", "UTC", "which the server does not read"),
        ("0 0 2 * * *", "Europe", "There is no time zone 'Europe'"),
        ("0 0 2 * * *", "x" * 9000, "There is no time zone 'xxx"),
        ("0 0 2 * * *", "\0", "There is no time zone"),
    ],
)
def test_a_cron_or_a_time_zone_that_cannot_be(expression: str, zone: str, sentence: str) -> None:
    with pytest.raises(Failure) as caught:
        parse(expression, zone)
    assert sentence in caught.value.what
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ["{a: 1, a: 2}", "[", "9" * 5000, "!!int x"])
def test_a_value_of_an_option_that_is_no_yaml_is_the_text_that_it_is(text: str) -> None:
    with pytest.raises(InvalidYaml):
        parse_yaml(text)
    with pytest.raises(Failure, match=r"train\.seed: "):
        load("quick", [f"train.seed={text}"])
