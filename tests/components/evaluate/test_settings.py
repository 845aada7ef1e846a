"""Settings of the step: each wrong value is one sentence that begins with its name."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

import pytest

from components.evaluate.measure import evaluation_key
from components.evaluate.settings import ADAPTIVE, GATE_FIELDS, EvaluateSettings, Protocol
from components.evaluate.texts import PROTOCOLS
from components.shared.base.failure import Failure
from components.shared.runtime.settings import parse_section
from components.shared.tracking.gate import Rule


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("protocols", ["wikitext-word", "wikitext-word"]),
        ("protocols", ["word"]),
        ("protocols", ["wikitext-word", "hf-doc+dynamic"]),
        ("cache_size", 0),
        ("window", 1),
        ("stride", 0),
        ("batch_tokens", 0),
        ("threads", 0),
        ("prompt_words", 0),
        ("bleu_prompts", -1),
        ("temperature", 0.0),
        ("temperature", float("nan")),
        ("margin", -0.1),
        ("margin", float("nan")),
        ("confidence", 1.0),
        ("resamples", 10),
        ("policy", "automatic"),
        ("dtype", "float16"),
    ],
)
def test_wrong_values(name, value):
    with pytest.raises(Failure) as failure:
        parse_section(EvaluateSettings, {name: value}, "evaluate")
    assert failure.value.what.startswith(f"evaluate.{name}")


def test_a_stride_beyond_the_window():
    with pytest.raises(Failure, match=r"evaluate\.stride must not exceed the window \(64\)"):
        parse_section(EvaluateSettings, {"window": 64, "stride": 65}, "evaluate")


def test_the_key_follows_what_changes_the_scores_and_nothing_else():
    key = evaluation_key(EvaluateSettings(), "d" * 64)
    assert evaluation_key(EvaluateSettings(stride=64), "d" * 64) != key
    assert evaluation_key(EvaluateSettings(protocols=("wikitext-word", "hf-doc")), "d" * 64) != key
    assert evaluation_key(EvaluateSettings(margin=0.1, policy="never"), "d" * 64) == key


def test_the_rule_of_the_gate_is_among_the_settings():
    """Every field of the rule can be set, and the defaults are the same in both places."""
    defaults = EvaluateSettings()
    for field in fields(Rule):
        assert getattr(defaults, field.name) == field.default
    assert {field.name for field in fields(Rule)} - {"seed"} == set(GATE_FIELDS)


def test_every_protocol_of_the_settings_is_static_or_adapts() -> None:
    assert [*PROTOCOLS, *ADAPTIVE] == list(get_args(Protocol))
