"""No value of a setting causes a traceback: it is accepted, or a sentence names the setting and a valid value."""

from __future__ import annotations

import json
from typing import Any

import pytest

from components.shared.base.failure import ExitCode, Failure
from components.shared.base.ranges import Range, limits_of, number
from components.shared.runtime.settings import parse_section
from pipelines.config.cluster import ClusterSettings
from pipelines.config.settings import SECTIONS
from tests.arguments.settings import NUMBERS, ODD, Field, every_class, every_field

FIELDS = every_field()
SECTION_NAMES = [*SECTIONS, "cluster"]
NUMERIC = [field for field in FIELDS if field.takes & {int, float}]
# Valid alone, and not with the defaults of the other fields: what the sentence then begins with.
TOGETHER = {
    "train.hidden_size": "train.hidden_size must be a multiple of twice num_attention_heads",
    "train.num_attention_heads": "train.hidden_size must be a multiple of twice num_attention_heads",
    "train.key_value_heads": "train.key_value_heads must divide num_attention_heads",
    "train.context": "train.sequence_length must be at most context",
    "train.sequence_length": "train.sequence_length must be at most context",
    "train.global_batch_size": "train.global_batch_size must be a multiple",
    "train.gradient_accumulation_steps": "train.global_batch_size must be a multiple",
    "train.processes": "train.global_batch_size must be a multiple",
    "train.pretrained": "train.revision must be a commit",
    "cluster.run_deadline_seconds": "cluster.run_deadline_seconds must not be below",
}


def parse(field: Field, value: Any) -> Any:
    kind = {**SECTIONS, "cluster": ClusterSettings}[field.section]
    parsed: Any = parse_section(kind, field.values(value), field.section)
    for key in field.path:
        parsed = getattr(parsed, key)
    return parsed


def sentence_of(field: Field, value: Any) -> str | None:
    """The problem with a value, or None if it is accepted. Any exception except a Failure fails the test."""
    try:
        parse(field, value)
    except Failure as failure:
        said = str(failure)
        assert failure.exit_code is ExitCode.USAGE
        assert "\n" not in said and len(said.encode()) < 2000, said
        return said
    return None


def fields_of(section: str) -> list[Field]:
    return [field for field in FIELDS if field.section == section]


def numbers_of(section: str) -> list[Field]:
    return [field for field in NUMERIC if field.section == section]


def together(field: Field) -> str:
    if field.path[-1] == "timeout_seconds":
        return "cluster.run_deadline_seconds must not be below the time-out"
    if field.path[-1] in ("cpu_limit", "memory_limit"):
        return ".".join([field.section, *field.path]).replace("limit", "request must not be above")
    return TOGETHER.get(field.name, "nothing that is said")


def test_every_number_has_its_range():
    """A new field without one fails here."""
    assert len(NUMERIC) > 90
    assert [field.name for field in NUMERIC if not isinstance(field.limit, Range)] == []


@pytest.mark.parametrize("kind", sorted(every_class(), key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
def test_a_class_checks_its_ranges_without_pydantic(kind):
    needed = {"steps": 1} if "steps" in kind.__dataclass_fields__ else {}
    needed |= {"key": "gpu"} if "key" in kind.__dataclass_fields__ else {}
    for name, limit in limits_of(kind).items():
        if isinstance(limit, Range):
            with pytest.raises(ValueError, match=f"{name} must be"):
                kind(**{**needed, name: limit.high + 1})


@pytest.mark.parametrize("section", [*SECTIONS, pytest.param("cluster", marks=pytest.mark.slow)])
def test_no_value_ends_in_a_traceback(section):
    for field in fields_of(section):
        for value in [*ODD, *NUMBERS, *field.at_the_bounds(), *field.just_outside()]:
            said = sentence_of(field, value)
            begins = (field.name, f"There is no setting {field.name}", together(field))
            assert said is None or said.startswith(begins), field.name


@pytest.mark.parametrize("section", SECTION_NAMES)
def test_the_bounds_are_valid_and_what_is_beyond_names_them(section):
    for field in numbers_of(section):
        for value in field.at_the_bounds():
            said = sentence_of(field, value)
            assert said is None or said.startswith(together(field))
        for value, nearest in zip(field.just_outside(), (field.limit.low, field.limit.high), strict=True):
            said = sentence_of(field, value)
            root = value == 0 and field.path[-1] == "run_as_user"
            assert f"{field.name} must {'not be 0' if root else f'be {field.limit}, got '}" in said
            assert f"; the nearest is {number(nearest)} (" in said, said


@pytest.mark.parametrize("section", SECTION_NAMES)
def test_a_number_that_is_far_away_names_the_nearest(section):
    for field in numbers_of(section):
        for value in (1e308, -1e308, 10**400, "1e400", float("inf")):
            said = sentence_of(field, value)
            assert "; the nearest is" in said or "; it must be from" in said


@pytest.mark.parametrize("section", SECTION_NAMES)
def test_what_is_taken_travels(section):
    """Settings become JSON in UTF-8, and come back."""
    for field in fields_of(section):
        for value in ODD:
            if str in field.takes and sentence_of(field, value) is None:
                json.dumps({"value": parse(field, value)}, ensure_ascii=False, default=str).encode()


@pytest.mark.parametrize(
    ("section", "values", "sentence"),
    [
        ("train", {"steps": 1, "pretrained": "a b"}, "train.pretrained must be OWNER/NAME on the Hub"),
        ("tokenize", {"tokenizer": "gpt2//x"}, "tokenize.tokenizer must be OWNER/NAME on the Hub"),
        ("download", {"corpus": "https://"}, "download.corpus must have a valid host"),
        ("download", {"corpus": "https://[::1"}, "download.corpus must have a valid host"),
        ("download", {"corpus": "https://host:99999/x.zip"}, "download.corpus must have a valid host"),
        ("download", {"corpus": "s3:///"}, "download.corpus must name a bucket"),
        ("notify", {"webhook": "http://[::1"}, "notify.webhook must be an http:// or https:// address"),
        ("notify", {"webhook": "https://host/a b"}, "notify.webhook must be an http:// or https:// address"),
        ("notify", {"webhook_variable": "A=B"}, "notify.webhook_variable must be the name of an environment variable"),
        ("cluster", {"image": "a b"}, "cluster.image must be the name of an image"),
        ("cluster", {"s3_secret": "My Secret"}, "cluster.s3_secret must be the name of an object of Kubernetes"),
        ("cluster", {"gpu_node_selector": {"a b": "c"}}, "cluster.gpu_node_selector.a b must be a key"),
        ("cluster", {"gpu_node_selector": {"a": "b c"}}, "cluster.gpu_node_selector.a must be a value of a label"),
        ("cluster", {"train": {"gpus": True}}, "cluster.train.gpus must be a number, got True"),
        ("cluster", {"train": {"gpsu": 1}}, "cluster.train.gpsu: Unexpected keyword argument; did you mean gpus?"),
        ("cluster", {"train": {"cpu_limit": "2000"}}, "from 1m to 1024, got '2000'; the nearest is 1024"),
        ("cluster", {"train": {"memory_limit": "8Ei"}}, "from 16Mi to 64Ti, got '8Ei'; the nearest is 64Ti"),
        ("cluster", {"gpu_tolerations": [{"key": "a", "value": "b"}]}, "cluster.gpu_tolerations.0.value must be left"),
        ("train", {"steps": 2.5}, "got 2.5; the nearest is 2"),
        ("train", {"STEPS": 1}, "did you mean train.steps?"),
        ("train", {"learning-rate": 1}, "did you mean train.learning_rate?"),
    ],
)
def test_a_value_that_does_not_fit(section, values, sentence):
    with pytest.raises(Failure) as caught:
        parse_section({**SECTIONS, "cluster": ClusterSettings}[section], values, section)
    assert sentence in str(caught.value)


def test_a_credential_in_a_wrong_value_is_not_shown():
    with pytest.raises(Failure) as caught:
        parse_section(SECTIONS["download"], {"corpus": f"https://user:{'s3cr3t' * 20}@[host"}, "download")
    assert "s3cr3t" not in str(caught.value)
