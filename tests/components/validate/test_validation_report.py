"""The report is written for every corpus, and shows its text without interpreting it."""

from dataclasses import asdict, replace

import pytest

from components.validate.measures import build_tables
from components.validate.report import write_report
from components.validate.results import Result, Validation
from components.validate.settings import ValidateSettings
from tests.components.shared.report.test_report import Elements
from tests.components.validate.texts import article, good, line, read

HOSTILE = "<script>alert(1)</script> $x$ $"
HOLDS = Result(
    split="test", name="few <unk>", table="lines", column="unknown", severity="error", setting="max_unk_rate",
    expectation="ExpectColumnMeanToBeBetween",
    success=True, observed=0.01, low=None, high=0.15, seen="1 % of its words", wanted="at most 15 %", examples=(),
)  # fmt: skip
FAILS = replace(HOLDS, name="text in UTF-8", success=False, seen="9 places", wanted="none", examples=(HOSTILE,))
WARNS = replace(FAILS, name="no endless line", severity="warning")
DRIFTS = replace(WARNS, split="train", table="statistics", column="unk rate", low=0.1, high=0.2, observed=0.3)


def written(folder, texts, *expectations, champion=None, **facts):
    corpus = read(folder, texts, **facts)
    validation = Validation(
        corpus=corpus.metadata,
        settings=asdict(ValidateSettings()),
        expectations=expectations,
        statistics={},
        frequent_words={},
        champion=champion,
    )
    return write_report(corpus, build_tables(corpus, ValidateSettings()), validation)


def headings(html):
    assert not Elements(html).named("script")
    return [part.partition("</h2>")[0] for part in html.split("<h2>")[1:]]


def test_a_report_of_a_good_corpus_has_its_pictures_and_expectations(tmp_path):
    html = written(tmp_path, good(), HOLDS)
    assert headings(html) == ["The text", "Its shape", "What the splits have in common", "All expectations"]
    assert ">passed</span>" in html
    assert html.count("<svg ") == 3
    assert "1 of 1 expectations hold" in html
    assert "few &lt;unk&gt;" in html
    assert "Title 200" in html or "Title 201" in html


def test_drift_has_its_own_picture(tmp_path):
    champion = {"version": "3", "dataset_digest": "c" * 64}
    html = written(tmp_path, good(), DRIFTS, champion=champion)
    assert "Against the champion" in "".join(headings(html))
    assert html.count("<svg ") == 4


def test_failures_come_first_and_hostile_text_is_escaped(tmp_path):
    text = article(1, title=HOSTILE) + f" {HOSTILE} \n"
    texts = good() | {"train": text, "test": text}
    html = written(tmp_path, texts, WARNS, HOLDS, FAILS, name=HOSTILE, attribution=HOSTILE)
    assert "failed: the run does not train on it" in html
    assert headings(html)[0] == "What is wrong"
    wrong = html.split("<h2>")[1]
    assert wrong.index("text in UTF-8") < wrong.index("no endless line")
    assert html.count("&lt;script&gt;") >= 5


@pytest.mark.parametrize(
    "texts",
    [
        {"train": "", "validation": "", "test": ""},
        {"test": " \n"},
        {"train": "a\n", "validation": "b\n", "test": "c\n"},
        {"train": line(1), "validation": line(2), "test": b"\xe9t\xe9 \x00\n"},
    ],
    ids=["nothing", "blank", "a word", "not UTF-8"],
)
def test_a_report_is_written_for_every_corpus(tmp_path, texts):
    assert "All expectations" in headings(written(tmp_path, good() | texts, FAILS))
