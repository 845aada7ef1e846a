"""The HTML report of a validation: the verdict, a description of the text, and every expectation."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING

from components.shared.report.report import Html, badge, facts, page, prose, sample, section, table
from components.shared.text.articles import SPLITS, split_lines
from components.validate import pictures
from components.validate.corpus import Corpus, Split
from components.validate.overlap import RUN
from components.validate.results import Result, Validation
from components.validate.settings import ValidateSettings
from components.validate.statistics import unknown_rate, unseen_rate

if TYPE_CHECKING:
    import pandas as pd

_SAMPLE_WORDS = 70
_SAMPLE_CHARACTERS = 700
_SAMPLE_BYTES = 1 << 16
_CLOSEST = 5


def write_report(corpus: Corpus, tables: Mapping[tuple[str, str], pd.DataFrame], validation: Validation) -> str:
    """Returns the report as an HTML page.

    Args:
        corpus: the corpus.
        tables: the result of `build_tables`.
        validation: the results of the checks.
    """
    settings = ValidateSettings(**validation.settings)
    parts = [_facts(validation), *_complaints(validation), _text(corpus)]
    if all(split.words.total for split in corpus.splits.values()):
        parts += [_shape(corpus, tables), _leakage(corpus, tables, settings)]
    if validation.champion:
        parts.append(_drift(validation))
    parts.append(_expectations(validation.expectations))
    return page(
        f"Validation of {validation.corpus['name']}",
        _summary(validation),
        parts,
        verdict=_verdict(validation),
        footer=" · ".join(
            str(corpus.metadata[name]) for name in ("attribution", "licence") if corpus.metadata.get(name)
        ),
    )


def _verdict(validation: Validation) -> Html:
    if validation.errors:
        return badge("failed: the run does not train on it", "bad")
    return badge("passed with warnings", "warn") if validation.warnings else badge("passed", "good")


def _summary(validation: Validation) -> str:
    held = sum(each.success for each in validation.expectations)
    return f"{held} of {len(validation.expectations)} expectations hold"


def _facts(validation: Validation) -> Html:
    corpus, champion = validation.corpus, validation.champion
    return facts(
        {
            "Corpus": corpus["name"],
            "Bytes": "as published" if corpus.get("published") else "of no known release",
            "Models are called": corpus.get("model_name"),
            "Dataset digest": str(corpus["dataset_digest"])[:12],
            **({"Changed": "; ".join(corpus["changes"])} if corpus.get("changes") else {}),
            "Compared with": f"champion {champion['version']}" if champion else "no other corpus",
        }
    )


def _complaints(validation: Validation) -> list[Html]:
    """Lists the failed expectations: first the errors, then the warnings."""
    found = [*validation.errors, *validation.warnings]
    if not found:
        return []
    rows = [
        [_mark(each), each.split, each.name, each.seen, each.wanted, "; ".join(each.examples) or None] for each in found
    ]
    columns = ["", "split", "expectation", "seen", "wanted", "for example"]
    return [section("What is wrong", table(columns, rows, "Errors stop the run; warnings do not."))]


def _text(corpus: Corpus) -> Html:
    rows = [
        [
            split.name,
            len(split.lines),
            len(split.articles.titles),
            split.words.total,
            split.words.distinct,
            f"{100 * unknown_rate(corpus, split.name):.2f} %",
            f"{100 * unseen_rate(corpus, split.name):.2f} %",
        ]
        for split in corpus.splits.values()
    ]
    words = corpus.words_are
    columns = ["split", "lines", "articles", words, f"distinct {words}", "<unk>", "not in train"]
    openings = (opening for split in corpus.splits.values() for opening in _opening(split))
    return section("The text", table(columns, rows, "The content of each split."), *openings)


def _opening(split: Split) -> list[Html]:
    """Returns the beginning of the article in the middle of a split."""
    if not split.words.total:
        return []
    articles = split.articles
    index = len(articles.titles) // 2
    first, end = [*articles.first_lines, len(split.lines)][index : index + 2]
    with open(split.path, "rb") as stream:
        deque(islice(stream, first), maxlen=0)
        lines = split_lines(stream.read(_SAMPLE_BYTES).decode("utf-8", errors="replace"))[: end - first]
    title = articles.titles[index]
    body = " ".join("".join(lines).replace(f" = {title} = ", "", 1).split())
    text = " ".join(body.split()[:_SAMPLE_WORDS])[:_SAMPLE_CHARACTERS]
    text += " …" if len(text) < len(body) else ""
    return [sample(text, prompt=f"{title}\n" if title else "", note=f"from {split.name}")]


def _shape(corpus: Corpus, tables: pictures.Tables) -> Html:
    return section("Its shape", pictures.lengths(tables, corpus.words_are), pictures.vocabulary(corpus))


def _leakage(corpus: Corpus, tables: pictures.Tables, settings: ValidateSettings) -> Html:
    run = f"{RUN[corpus.unit]} {corpus.words_are}"
    rows = [
        [split, article.title or "(no title)", article.twin, f"{100 * article.overlap:.1f} %"]
        for split in SPLITS[1:]
        for article in tables[split, "articles"].nlargest(_CLOSEST, "overlap").itertuples()
        if article.twin
    ]
    closest = table(["split", "article", "closest to", "overlap"], rows, "The articles with the most in common.")
    return section(
        "What the splits have in common",
        prose(
            "A model that was trained on the test text scores better than it should. A slightly edited copy"
            f" keeps most of its runs of {run}, while two articles on the same subject share few."
        ),
        pictures.overlap(tables, settings),
        *([closest] if rows else []),
    )


def _drift(validation: Validation) -> Html:
    champion = validation.champion or {}
    compared = [each for each in validation.expectations if each.table == "statistics"]
    rows = [[each.name, each.seen, each.wanted, _mark(each)] for each in compared]
    return section(
        "Against the champion's corpus",
        prose(f"Champion {champion['version']} was trained on the corpus {champion['dataset_digest'][:12]}."),
        pictures.drift(compared),
        table(["expectation", "seen", "wanted", ""], rows, "The train split, compared."),
    )


def _expectations(results: Iterable[Result]) -> Html:
    """Builds a table with a row for each expectation and a column for each split."""
    by_name: dict[str, dict[str, Result]] = {}
    for each in results:
        by_name.setdefault(each.name, {})[each.split] = each
    rows = [[name, *(_cell(of.get(split)) for split in SPLITS), _wanted(of)] for name, of in by_name.items()]
    columns = ["expectation", *SPLITS, "wanted"]
    return section("All expectations", table(columns, rows, "The observed values by split, and the required values."))


def _cell(result: Result | None) -> Html | None:
    if result is None:
        return None
    seen = Html.escape(result.seen.partition(": ")[0])  # the number of columns without their names
    return seen if result.success else seen + " " + _mark(result)


def _wanted(of: Mapping[str, Result]) -> str:
    """Returns the required values of all splits, without repetitions."""
    return "; ".join(dict.fromkeys(each.wanted.partition(": ")[0] for each in of.values()))


def _mark(result: Result) -> Html:
    if result.success:
        return badge("holds", "good")
    return badge("error", "bad") if result.severity == "error" else badge("warning", "warn")
