"""The section of the report with the scores of the model that adapted to the text while it was scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from components.evaluate.baselines import ADAPTED_REFERENCES, WIKITEXT_2_TEST_SHA256
from components.evaluate.pictures import MEASURES
from components.shared.report.report import Html, details, prose, section, table

_TEXT = (
    "By these protocols the model learned from the text that it had scored already; each token was scored once, before"
    " anything learned from it. The numbers compare only with others that were adapted while scored. The gate does not"
    " read them, and the registered weights are the trained ones."
)


def adapted_section(evaluation: Mapping[str, Any]) -> Html:
    """Returns the section for the adaptive protocols in an evaluation.json."""
    unit = next(iter(evaluation["adapted"].values()))["splits"]["test"]["unit"]
    measure = MEASURES[unit]
    columns = ["adapted while scored", "protocol", f"{measure}, test", f"{measure}, validation", "note", "source"]
    grids = [
        details(
            f"What was tried for {protocol}, on the first {adapted['chosen_on_tokens']:,} tokens of validation",
            table(list(adapted["grid"][0]), [list(row.values()) for row in adapted["grid"]], protocol),
        )
        for protocol, adapted in evaluation["adapted"].items()
    ]
    rows = table(columns, list(_rows(evaluation, unit)), "Adapted while scored")
    return section("Adapted while scored", prose(_TEXT), rows, *grids)


def _rows(evaluation: Mapping[str, Any], unit: str) -> Iterator[list[Any]]:
    """Yields this model by each protocol, and the results published for the same text and protocol."""
    name = "word_perplexity" if unit == "word" else "bits_per_byte"
    for protocol, adapted in evaluation["adapted"].items():
        splits = adapted["splits"]
        note = ", ".join([adapted["method"], *(f"{key} {value:g}" for key, value in adapted["parameters"].items())])
        yield ["this model", protocol, splits["test"][name], splits["validation"][name], note, "this run"]
        for each in ADAPTED_REFERENCES:
            if each.protocol == protocol and splits["test"]["text_sha256"] == WIKITEXT_2_TEST_SHA256:
                yield [each.name, protocol, each.value, None, each.note, each.source]
