"""The results of the checks of a corpus, for storage, logs and the report."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from components.shared.text.units import Unit


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of one check.

    Attributes:
        split, name, table, column, severity, setting: the fields of the check.
        expectation: the class of Great Expectations that evaluated the check.
        success: whether the expectation holds.
        observed: the observed value; None if it could not be measured.
        low, high: the limits; None if there is no such limit.
        seen: the observed value in words.
        wanted: the required value in words.
        examples: a few lines or titles for which the expectation fails.
    """

    split: str
    name: str
    table: str
    column: str
    severity: str
    setting: str
    expectation: str
    success: bool
    observed: float | None
    low: float | None
    high: float | None
    seen: str
    wanted: str
    examples: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The result as one line of text."""
        examples = f" ({'; '.join(self.examples[:2])})" if self.examples else ""
        return f"'{self.name}' failed in {self.split}: saw {self.seen}{examples}, wanted {self.wanted}"


@dataclass(frozen=True, kw_only=True)
class Validation:
    """A corpus with the results of its validation.

    Attributes:
        corpus: the metadata of the corpus.
        settings: the limits by name.
        expectations: the results in the order of the checks.
        statistics: the result of `text_statistics` for the train split.
        frequent_words: the result of `word_shares` for the train split.
        champion: the version and the dataset digest of the champion that it was compared with, or None.
        unit: "byte" if each character counts as a word.
    """

    corpus: dict[str, Any]
    settings: dict[str, Any]
    expectations: tuple[Result, ...]
    statistics: dict[str, float]
    frequent_words: dict[str, float]
    champion: dict[str, str] | None
    unit: Unit = "word"

    @property
    def errors(self) -> list[Result]:
        return [each for each in self.expectations if not each.success and each.severity == "error"]

    @property
    def warnings(self) -> list[Result]:
        return [each for each in self.expectations if not each.success and each.severity == "warning"]

    def to_json(self) -> str:
        return json.dumps({"passed": not self.errors, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Validation:
        fields = json.loads(text)
        del fields["passed"]
        fields["expectations"] = tuple(
            Result(**{**row, "examples": tuple(row["examples"])}) for row in fields["expectations"]
        )
        return cls(**fields)
