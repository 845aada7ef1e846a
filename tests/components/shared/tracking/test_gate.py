"""Every outcome of the gate."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest

from components.evaluate.settings import EvaluateSettings
from components.shared.tracking.gate import PROTOCOL, Rule, Scores, bootstrap, gate

RULE = Rule(margin=0.01, resamples=500)
_LENGTHS = [100 + 37 * (number % 7) for number in range(60)]
_HARDNESS = [5 + 0.8 * math.sin(number) for number in range(60)]


def scores(gain: float = 0.0, noise: float = 0.0, **values) -> Scores:
    """Sixty articles, some much harder than others, each `gain` nats per word better than the champion's."""
    articles = tuple(
        ((hardness - gain + noise * math.sin(7.3 * number)) * words, words)
        for number, (hardness, words) in enumerate(zip(_HARDNESS, _LENGTHS, strict=True))
    )
    return replace(Scores("a" * 64, PROTOCOL, articles, "ours", "ours", "t" * 64), **values)


THEIRS = {"weights_digest": "theirs", "measured_on": "theirs"}
UNNAMED = {"weights_digest": "", "measured_on": ""}
CHAMPION = scores(**THEIRS)


def spoilt(nll: float) -> Scores:
    return scores(articles=((nll, 100), *scores(0.1).articles[1:]))


@pytest.mark.parametrize(
    ("name", "challenger", "champion", "word", "alias", "says"),
    [
        ("first model", scores(), None, "promote", "champion", "first model of its name: word perplexity"),
        ("clearly better", scores(0.05), CHAMPION, "promote", "champion", "Better: word perplexity"),
        ("better, some articles worse", scores(0.05, 0.1), CHAMPION, "promote", "champion", "Better"),
        ("clearly worse", scores(-0.05), CHAMPION, "keep", "challenger", "Worse"),
        ("tie", scores(), CHAMPION, "keep", "challenger", "Difference not significant"),
        ("below the margin", scores(0.005), CHAMPION, "keep", "challenger", "less than the margin of 0.01"),
        ("better by luck", scores(0.02, 0.6), CHAMPION, "keep", "challenger", "Difference not significant"),
        ("other tokenizer", scores(0.05, tokenizer_digest="u" * 64), CHAMPION, "promote", "champion", "Better"),
        ("other text", scores(1, text_sha256="b" * 64), CHAMPION, "incomparable", "challenger", "texts differ"),
        ("other protocol", scores(1, protocol="x"), CHAMPION, "incomparable", "challenger", "scored by x"),
        (
            "other articles",
            scores(1),
            scores(articles=CHAMPION.articles[:50], **THEIRS),
            "incomparable",
            "challenger",
            "50",
        ),
        (
            "champion is NaN",
            scores(),
            replace(spoilt(math.nan), **THEIRS),
            "incomparable",
            "challenger",
            "article 1 has nan nats",
        ),
        ("champion is gone", scores(), Scores.from_evaluation(None, "c"), "incomparable", "challenger", "are none"),
        ("scores of others", scores(1, measured_on="x"), CHAMPION, "incomparable", "challenger", "on weights x…"),
        ("others' and first", scores(measured_on="x"), None, "incomparable", "challenger", "it has ours…"),
        ("scores of nobody", scores(1, measured_on=""), CHAMPION, "incomparable", "challenger", "not recorded"),
        ("champion of others", scores(1), replace(CHAMPION, measured_on="x"), "incomparable", "challenger", "x…"),
        ("champion unnamed", scores(1), replace(CHAMPION, weights_digest=""), "incomparable", "challenger", "record"),
        ("both unnamed", scores(1, **UNNAMED), scores(**UNNAMED), "incomparable", "challenger", "not recorded"),
        ("the same weights", scores(1), scores(), "keep", None, "The champion has the same weights"),
        ("NaN", spoilt(math.nan), CHAMPION, "invalid", None, "article 1 has nan nats"),
        ("inf", spoilt(math.inf), CHAMPION, "invalid", None, "article 1 has inf nats"),
        ("minus inf", spoilt(-math.inf), CHAMPION, "invalid", None, "article 1 has -inf nats"),
        ("too large for a float", spoilt(1e9), CHAMPION, "invalid", None, "word perplexity is inf"),
        ("NaN and first", spoilt(math.nan), None, "invalid", None, "nan nats"),
        ("missing", Scores.from_evaluation({}, "o"), CHAMPION, "invalid", None, "there are none"),
        ("unmerged prefix", scores(1, merged=False), None, "invalid", None, "weights that would be served"),
        ("no words", scores(articles=((0.0, 0),) * 9), CHAMPION, "invalid", None, "there are none"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
def test_outcomes(name, challenger, champion, word, alias, says):
    verdict = gate(challenger, champion, RULE)
    assert (verdict.word, verdict.alias) == (word, alias), name
    assert says in verdict.reason


def by_bytes(gain: float = 0.0, **values) -> Scores:
    """The same articles where spaces do not separate words: sizes are bytes, and `gain` is nats per byte."""
    return scores(gain, **{"unit": "byte", "bits_per_byte": 7.2, **values})


@pytest.mark.parametrize(
    ("name", "challenger", "champion", "word", "alias", "says"),
    [
        ("first model", by_bytes(), None, "promote", "champion", "first model of its name: bits per byte 7."),
        ("clearly better", by_bytes(0.05), by_bytes(**THEIRS), "promote", "champion", "-0.05000 nats per byte"),
        ("by a fifth of the margin", by_bytes(0.0021), by_bytes(**THEIRS), "promote", "champion", "Better: bits per"),
        ("by less", by_bytes(0.0019), by_bytes(**THEIRS), "keep", "challenger", "margin of 0.002 nats per byte"),
        ("worse", by_bytes(-0.05), by_bytes(**THEIRS), "keep", "challenger", "Worse: bits per byte"),
        ("NaN", by_bytes(articles=((math.nan, 9),) * 9), None, "invalid", None, "nan nats over 9 bytes"),
        (
            "other unit",
            by_bytes(0.5),
            CHAMPION,
            "incomparable",
            "challenger",
            "by bytes, the champion by words",
        ),
        ("guessing is better", by_bytes(bits_per_byte=40.0), None, "invalid", None, "bits per byte are 40.0"),
        ("no bits", by_bytes(bits_per_byte=math.nan), None, "invalid", None, "bits per byte are unknown"),
        (
            "a champion that is as bad is replaced",
            by_bytes(0.05),
            by_bytes(bits_per_byte=40.0, **THEIRS),
            "promote",
            "champion",
            "Better",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else "",
)
def test_outcomes_by_bytes(name, challenger, champion, word, alias, says):
    verdict = gate(challenger, champion, RULE)
    assert (verdict.word, verdict.alias, verdict.unit) == (word, alias, "byte"), name
    assert says in verdict.reason


def test_an_infinite_word_perplexity_is_valid_if_the_bits_per_byte_are():
    """The word perplexity of a text without spaces has 130 digits, or is too large for a float."""
    long_words = {"articles": tuple((900.0 * words, words) for _, words in CHAMPION.articles), "bits_per_byte": 4.4}
    verdict = gate(scores(**long_words), CHAMPION, RULE)
    assert verdict.word == "keep"
    assert "word perplexity infinite against" in verdict.reason
    large = {"articles": tuple((300.0 * words, words) for _, words in CHAMPION.articles), "bits_per_byte": 4.4}
    assert "word perplexity 1.94e+130 on validation" in gate(scores(**large), None, RULE).reason


def test_too_few_articles_for_an_interval():
    few = {"articles": CHAMPION.articles[:4]}
    verdict = gate(scores(1, articles=scores(1).articles[:4]), scores(**few, **THEIRS), RULE)
    assert verdict.word == "incomparable"
    assert "4 articles are too few" in verdict.reason


@pytest.mark.parametrize(
    ("policy", "better", "worse"),
    [("auto", "champion", "challenger"), ("manual", "challenger", "challenger"), ("never", None, None)],
)
def test_policies(policy, better, worse):
    rule = replace(RULE, policy=policy)
    assert gate(scores(0.05), CHAMPION, rule).alias == better
    assert gate(scores(), None, rule).alias == better
    assert gate(scores(-0.05), CHAMPION, rule).alias == worse
    assert gate(scores(0.05), CHAMPION, rule).word == "promote"
    assert gate(spoilt(math.nan), CHAMPION, rule).alias is None


def test_the_difference_is_per_word_and_lies_in_the_interval():
    verdict = gate(scores(0.05, 0.1), CHAMPION, RULE)
    total = sum(nll for nll, _ in scores(0.05, 0.1).articles) - sum(nll for nll, _ in CHAMPION.articles)
    assert verdict.difference == pytest.approx(total / sum(_LENGTHS))
    low, high = verdict.interval
    assert low < verdict.difference < high < 0


def test_pairing_detects_a_difference_smaller_than_the_spread_between_articles():
    """Articles differ by a nat from each other, the models by 0.02: unpaired, the interval would contain zero."""
    difference, (low, high) = bootstrap(scores(0.02), CHAMPION, confidence=0.95, resamples=500, seed=0)
    assert low == pytest.approx(difference) == high
    assert gate(scores(0.02), CHAMPION, RULE).word == "promote"


def test_equal_arguments_give_an_equal_verdict():
    assert gate(scores(0.02, 0.3), CHAMPION, RULE) == gate(scores(0.02, 0.3), CHAMPION, RULE)
    other = gate(scores(0.02, 0.3), CHAMPION, replace(RULE, seed=1))
    assert other.interval != gate(scores(0.02, 0.3), CHAMPION, RULE).interval


def test_confidence_is_the_share_of_intervals_that_contain_the_mean():
    """Over many samples of articles from one population, about 90 % of the 90 % intervals contain its mean."""
    import numpy as np

    random, held = np.random.default_rng(5), 0
    for seed in range(200):
        noise = random.normal(0, 0.2, size=60)
        drawn = tuple(((6 + extra) * 100, 100) for extra in noise)
        base = scores(articles=((600.0, 100),) * 60)
        _, (low, high) = bootstrap(scores(articles=drawn), base, confidence=0.9, resamples=200, seed=seed)
        held += low <= 0 <= high
    assert 160 <= held <= 196


def test_scores_are_read_from_an_evaluation():
    articles = [{"title": "A", "nll": 12.5, "words": 3, "tokens": 4}]
    validation = {"text_sha256": "a" * 64, "articles": articles}
    evaluation = {"weights_digest": "w", "protocols": {PROTOCOL: {"validation": validation}}, "tokenizer_digest": "t"}
    assert Scores.from_evaluation(evaluation, "v") == Scores("a" * 64, PROTOCOL, ((12.5, 3),), "v", "w", "t")
    assert Scores.from_evaluation({"protocols": {}}, "v").articles == ()
    assert Scores.from_evaluation({"protocols": {PROTOCOL: {"validation": {"articles": [{}]}}}}, "v").articles == ()


def test_scores_by_bytes_are_read_from_an_evaluation():
    articles = [{"title": "A", "nll": 12.5, "words": 1, "bytes": 90, "tokens": 4}]
    validation = {"text_sha256": "a" * 64, "articles": articles, "unit": "byte", "bits_per_byte": 4.4}
    evaluation = {"weights_digest": "w", "protocols": {PROTOCOL: {"validation": validation}}}
    read = Scores.from_evaluation(evaluation, "v")
    assert (read.articles, read.unit, read.bits_per_byte) == (((12.5, 90),), "byte", 4.4)


def test_null_in_an_evaluation_is_not_a_number():
    articles = [{"title": "A", "nll": None, "words": 3, "bytes": 9, "tokens": 4}]
    validation = {"text_sha256": "a" * 64, "articles": articles, "unit": "word", "bits_per_byte": None}
    evaluation = {"weights_digest": "w", "protocols": {PROTOCOL: {"validation": validation}}}
    assert "article 1 has nan nats over 3 words" in gate(Scores.from_evaluation(evaluation, "w"), None, RULE).reason


def test_scores_without_a_unit_are_compared_with_current_ones():
    """A text with enough articles is split as before."""
    then = {"text_sha256": "a" * 64, "articles": [{"nll": n, "words": w} for n, w in CHAMPION.articles]}
    now = {
        "text_sha256": "a" * 64,
        "articles": [{"nll": n, "words": w, "bytes": 5 * w} for n, w in scores(0.05).articles],
        "unit": "word",
        "cut": "articles",
        "bits_per_byte": 1.5,
    }
    champion, challenger = (
        Scores.from_evaluation({"weights_digest": name, "protocols": {PROTOCOL: {"validation": each}}}, name)
        for name, each in (("then", then), ("now", now))
    )
    assert gate(challenger, champion, RULE).word == "promote"


def test_a_rule_is_read_from_the_settings_of_the_evaluation():
    settings = EvaluateSettings(margin=0.1, policy="never", window=4)
    assert Rule.from_settings(asdict(settings)) == Rule(margin=0.1, policy="never")
    assert Rule.from_settings(asdict(EvaluateSettings())) == Rule()
