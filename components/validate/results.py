"""How the checks of a corpus ended, as it is kept, logged and shown."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from components.shared.text.units import Unit


@dataclass(frozen=True, kw_only=True)
class Result:
    """How one check ended.

    Attributes:
        split, name, table, column, severity, setting: as in the check.
        expectation: the class of Great Expectations that looked.
        success: whether it holds.
        observed: the number seen; None where it could not be had.
        low, high: the least and the most that is good; None where there is no such limit.
        seen: what was seen, in words.
        wanted: what would have been good, in words.
        examples: where it fails, a few lines or titles.
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
        """The result in one line."""
        examples = f" ({'; '.join(self.examples[:2])})" if self.examples else ""
        return f"'{self.name}' failed in {self.split}: saw {self.seen}{examples}, wanted {self.wanted}"


@dataclass(frozen=True, kw_only=True)
class Validation:
    """A corpus and how it was judged.

    Attributes:
        corpus: the metadata of the corpus.
        settings: the limits, by name.
        expectations: in the order in which they were looked at.
        statistics: of the train split, as `text_statistics` gives them.
        frequent_words: of the train split, as `word_shares` gives them.
        champion: version and dataset digest of what it was compared with, or None.
        unit: "byte" where a character counts as a word.
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
