"""The HTML report of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from components.evaluate.adapted_section import adapted_section
from components.evaluate.baselines import REFERENCES
from components.evaluate.pictures import (
    MEASURES,
    ComparedModel,
    Kind,
    against_champion,
    article_measure,
    by_article,
    comparison_chart,
    training_curves,
)
from components.shared.report.report import Html, Tone, badge, details, facts, page, prose, sample, section, table
from components.shared.text.units import Unit
from components.shared.tracking.gate import PROTOCOL

_TONES: dict[str, Tone] = {"promote": "good", "keep": "plain", "incomparable": "warn", "invalid": "bad"}
_EXTREMES = 5
_MEASURED = {
    "word_perplexity": "word perplexity",
    "token_perplexity": "token perplexity",
    "bits_per_byte": "bits per byte",
    "nll": "nats",
    "words": "words",
    "tokens": "tokens",
    "scored_tokens": "tokens scored",
    "bytes": "bytes",
    "window": "window, tokens",
    "stride": "stride, tokens",
    "bos": "token before the text, unscored",
    "dtype": "computed in",
    "unit": "compared by",
    "cut": "cut into",
    "text_sha256": "sha256 of the text",
}


def evaluation_page(
    evaluation: Mapping[str, Any],
    corpus: Mapping[str, Any],
    model: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
) -> str:
    """Returns the report as an HTML page.

    Args:
        evaluation: the content of evaluation.json.
        corpus, model: the metadata of their manifests.
        history: the rows of the model's history.jsonl.
    """
    verdict = evaluation["verdict"]
    test = evaluation["protocols"][PROTOCOL]["test"]
    sound = _positive(test["nll"])
    sections = [prose(verdict["reason"]), _headline(evaluation, model), _comparison(evaluation, corpus, sound=sound)]
    if evaluation.get("adapted"):
        sections.append(adapted_section(evaluation))
    if curves := training_curves(history, model.get("candidates")):
        sections.append(section("How it was trained", curves))
    if sound:
        sections.append(_articles(test["articles"], test["unit"]))
    if evaluation["samples"]:
        sections.append(_writing(evaluation))
    sections.append(_method(evaluation))
    return page(
        f"{corpus['model_name']}, evaluated",
        f"{model['parameters'] / 1e6:.1f} million parameters, trained on {corpus['name']},"
        f" {model['tokens_seen'] / 1e6:.1f} million tokens in {_duration(model['train_seconds'])}",
        sections,
        verdict=badge(verdict["word"], _TONES[verdict["word"]]),
        footer=f"Weights {evaluation['weights_digest']}. Text: {corpus['licence']}. {corpus['attribution']}",
    )


def _headline(evaluation: Mapping[str, Any], model: Mapping[str, Any]) -> Html:
    test, validation = (evaluation["protocols"][PROTOCOL][split] for split in ("test", "validation"))
    values = {
        "Word perplexity, test": test["word_perplexity"],
        "Word perplexity, validation": validation["word_perplexity"],
        "Token perplexity, test": test["token_perplexity"],
        "Bits per byte, test": test["bits_per_byte"],
    }
    if test["unit"] == "byte":
        del values["Word perplexity, test"], values["Word perplexity, validation"]
        values["Bits per byte, validation"] = validation["bits_per_byte"]
    if evaluation["bleu"]:
        values["BLEU of continuations"] = evaluation["bleu"]["bleu"]
    return facts(values | {"Parameters": model["parameters"], "Best step": model["best_step"]})


def _comparison(evaluation: Mapping[str, Any], corpus: Mapping[str, Any], *, sound: bool) -> Html:
    champion, verdict = evaluation["champion"], evaluation["verdict"]
    unit: Unit = evaluation["protocols"][PROTOCOL]["test"]["unit"]
    kinds, rows = zip(*_rows(evaluation, corpus), strict=True)
    parts = [table(["model", f"{MEASURES[unit]}, test", "note", "source"], rows, "By protocol wikitext-word")]
    models = [ComparedModel(row[0], row[1], kind) for kind, row in zip(kinds, rows, strict=True) if _positive(row[1])]
    if sound:
        parts.insert(0, comparison_chart(models, unit))
    others = [
        [each.name, each.protocol, _ours(evaluation, each.protocol, each.measure), each.value, each.note, each.source]
        for each in REFERENCES
        if each.protocol != PROTOCOL and each.corpus == corpus["name"]
    ]
    if others:
        columns = ["published", "protocol", "this model", "perplexity", "note", "source"]
        parts.append(table(columns, others, "By other protocols; this model is scored by those in evaluate.protocols"))
    theirs = (champion or {}).get("protocols", {}).get(PROTOCOL, {}).get("validation")
    if theirs and verdict["interval"] and verdict["interval"][0] != verdict["interval"][1]:
        ours = evaluation["protocols"][PROTOCOL]["validation"]["articles"]
        parts.append(section(f"Against version {champion['version']}, the champion", level=3))
        parts.append(against_champion(ours, theirs["articles"], verdict))
    return section("Comparison", *parts)


def _rows(evaluation: Mapping[str, Any], corpus: Mapping[str, Any]) -> Iterator[tuple[Kind, list[Any]]]:
    """Yields this model, the champion, the unigram and the results published on the same text, each with its kind."""
    test, baselines = evaluation["protocols"][PROTOCOL]["test"], evaluation["baselines"]
    of_words = test["unit"] == "word"
    name = "word_perplexity" if of_words else "bits_per_byte"
    yield "this", ["this model", test[name], "", "this run"]
    if champion := evaluation["champion"]:
        yield (
            "champion",
            [f"champion, version {champion['version']}", champion[f"test_{name}"], champion["origin"], "MLflow"],
        )
    if of_words:
        note = f"unigram of the train split, add-one smoothing, {baselines['unigram']['types']:,} words"
        yield "baseline", ["unigram", baselines["unigram"]["test"], note, "this run"]
    else:
        yield (
            "baseline",
            ["unigram", baselines["byte_unigram"]["test"], "byte frequencies of the train split", "this run"],
        )
    for each in REFERENCES:
        if each.protocol == PROTOCOL and corpus["name"].startswith("wikitext-2"):
            same = "" if each.corpus == corpus["name"] else f"; on {each.corpus}, so not the same text"
            yield "published", [each.name, each.value, each.note + same, each.source]


def _ours(evaluation: Mapping[str, Any], protocol: str, measure: str) -> float | None:
    return evaluation["protocols"].get(protocol, {}).get("test", {}).get(measure)


def _articles(articles: Sequence[Mapping[str, Any]], unit: Unit) -> Html:
    ordered = sorted(articles, key=lambda article: article_measure(article, unit))
    few = min(_EXTREMES, len(ordered) // 2)

    def rows(chosen: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
        return [[each["title"], article_measure(each, unit), each[f"{unit}s"], each["tokens"]] for each in chosen]

    columns = ["article", MEASURES[unit], f"{unit}s", "tokens"]
    return section(
        "Article by article",
        by_article(articles, unit),
        table(columns, rows(ordered[::-1][:few]), "The hardest"),
        table(columns, rows(ordered[:few]), "The easiest"),
        details(f"All {len(ordered)} articles", table(columns, rows(ordered), "From easiest to hardest")),
    )


def _writing(evaluation: Mapping[str, Any]) -> Html:
    parts = [prose("The bold text begins a paragraph of the test split; the text after it is sampled from the model.")]
    for each in evaluation["samples"]:
        note = f"{each['title']}\nGreedy: {each['greedy'].strip()}\nReference: {each['reference'].strip()}"
        parts.append(sample(each["continuation"], prompt=each["prompt"].lstrip(), note=note))
    if bleu := evaluation["bleu"]:
        names = {
            "distinct_1": "distinct words",
            "distinct_2": "distinct word pairs",
            "repetition": "repeated four-grams",
        }
        rows = [[shown, f"{bleu[name]:.1%}", f"{bleu['reference'][name]:.1%}"] for name, shown in names.items()]
        parts.append(
            table(
                ["continuations", "the model's", "the reference"],
                rows,
                f"BLEU {bleu['bleu']:.2f} ({bleu['signature']}) of {bleu['prompts']} continuations, {bleu['decoding']};"
                " it says little about a language model and does not affect the gate",
            )
        )
    return section("Samples", *parts)


def _method(evaluation: Mapping[str, Any]) -> Html:
    scored = [
        (f"{name}, {split}", each) for name, splits in evaluation["protocols"].items() for split, each in splits.items()
    ]
    rows = [[shown, *(_value(each[name]) for _, each in scored)] for name, shown in _MEASURED.items()]
    text = (
        "Each number comes from one sum of negative log-likelihood in float64, to which each token contributes once."
        " Word perplexity is exp(nats / words) and can be compared between models with different tokenizers; token"
        " perplexity is exp(nats / tokens) and cannot. For a text without spaces between words, bits per byte are"
        " compared instead."
    )
    return section(
        "How it was measured", prose(text), table(["", *(name for name, _ in scored)], rows, "All measurements")
    )


def _value(value: Any) -> Any:
    return "none" if value is None else value[:16] + "…" if isinstance(value, str) and len(value) == 64 else value


def _positive(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
