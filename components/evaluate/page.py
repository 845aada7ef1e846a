"""The report of an evaluation: what a person wants to see before deciding about a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.shared.gate import PROTOCOL
from components.shared.report import Html, Tone, badge, facts, page, prose, sample, section

_TONES: dict[str, Tone] = {"promote": "good", "keep": "plain", "incomparable": "warn", "invalid": "bad"}


def evaluation_page(
    evaluation: Mapping[str, Any],
    corpus: Mapping[str, Any],
    model: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
) -> str:
    """The document, HTML.

    Args:
        evaluation: the content of evaluation.json.
        corpus, model: facts of their manifests.
        history: rows of the model's history.jsonl.
    """
    verdict, test = evaluation["verdict"], evaluation["protocols"][PROTOCOL]["test"]
    sections = [
        prose(verdict["reason"]),
        facts({"Word perplexity, test": test["word_perplexity"]}),
        section("Samples", *(_sample(each) for each in evaluation["samples"])),
    ]
    title = f"{corpus['model_name']}: word perplexity {test['word_perplexity']:.1f}"
    subtitle = f"{model['parameters']:,} parameters"
    return page(title, subtitle, sections, verdict=badge(verdict["word"], _TONES[verdict["word"]]))


def _sample(each: Mapping[str, str]) -> Html:
    return sample(each["continuation"], prompt=each["prompt"], note=f"Really: {each['real']}")
