"""The report on a corpus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from components.shared.report import Html, badge, page, section, table
from components.validate.corpus import Corpus
from components.validate.results import Result, Validation

if TYPE_CHECKING:
    import pandas as pd


def write_report(corpus: Corpus, tables: Mapping[tuple[str, str], pd.DataFrame], validation: Validation) -> str:
    rows = [[each.split, each.name, each.seen, each.wanted, _verdict(each)] for each in validation.expectations]
    columns = ["split", "expectation", "seen", "wanted", "verdict"]
    return page("Validation", str(corpus.facts["name"]), [section("Expectations", table(columns, rows, "By split"))])


def _verdict(result: Result) -> Html:
    if result.success:
        return badge("holds", "good")
    return badge("failed", "bad") if result.severity == "error" else badge("warning", "warn")
