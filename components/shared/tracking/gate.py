"""The gate decides whether a challenger replaces the champion.

Both were scored on the same validation text. The comparison is paired by article, because some articles are harder than
others for every model: the gate uses the difference in negative log-likelihood per word and its bootstrap interval over
the articles. For a text without spaces between words it uses the difference per byte.

Scores count only for the weights whose digest is recorded with them: the gate rejects scores of other weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from components.shared.report.measures import finite, format_measure
from components.shared.text.units import BYTES_OF_A_WORD, Unit, exp_mean

Outcome = Literal["promote", "keep", "incomparable", "invalid"]
Alias = Literal["champion", "challenger"]
Policy = Literal["auto", "manual", "never"]

PROTOCOL = "wikitext-word"
SPLIT = "validation"
_FEWEST_PAIRS = 5
# No working model has more bits per byte: uniform guessing over the largest vocabularies has 18.
_MOST_BITS = 32


@dataclass(frozen=True)
class Rule:
    """The rule for a promotion.

    Attributes:
        margin: the nats per word by which the challenger must be better. For a comparison per byte it is a fifth,
            because an English word has five bytes.
        confidence: the confidence level of the bootstrap interval.
        resamples: the number of bootstrap resamples.
        seed: the seed of the bootstrap.
        policy: `auto` sets the alias champion, `manual` only the alias challenger, and `never` no alias.
    """

    margin: float = 0.005
    confidence: float = 0.95
    resamples: int = 2000
    seed: int = 0
    policy: Policy = "auto"

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Rule:
        """The rule in the settings of the evaluation."""
        return cls(**{field.name: settings[field.name] for field in fields(cls)})


@dataclass(frozen=True)
class Scores:
    """The scores of a model on the validation text.

    Attributes:
        text_sha256: the sha256 of the text.
        protocol: the protocol of the evaluation.
        articles: nats and size of each article, in order; the size is in `unit`.
        weights_digest: the digest of the model for which the gate decides.
        measured_on: the digest of the weights that were scored; "" if it was not recorded.
        tokenizer_digest: the digest of the model's tokenizer.
        merged: whether the scored weights are the served ones; False for an adapter that cannot be merged.
        unit: the unit of the sizes, which depends only on the text.
        bits_per_byte: the bits per byte of the whole text; None if they were not recorded.
    """

    text_sha256: str
    protocol: str
    articles: tuple[tuple[float, int], ...]
    weights_digest: str
    measured_on: str
    tokenizer_digest: str = ""
    merged: bool = True
    unit: Unit = "word"
    bits_per_byte: float | None = None

    @classmethod
    def from_evaluation(cls, evaluation: Mapping[str, Any] | None, weights_digest: str) -> Scores:
        """The scores in an evaluation.json; if it contains none, scores that the gate rejects.

        Args:
            evaluation: the content of the file, or None if there is no evaluation.
            weights_digest: the digest of the model for which the gate decides; for a version, its tag.
        """
        known = evaluation or {}
        measured_on = str(known.get("weights_digest", ""))
        try:
            score = known["protocols"][PROTOCOL][SPLIT]
            unit: Unit = score.get("unit", "word")  # evaluations of earlier releases have words only
            size = {"word": "words", "byte": "bytes"}[unit]
            articles = tuple((_number(article["nll"]), int(article[size])) for article in score["articles"])
            return cls(
                text_sha256=str(score["text_sha256"]),
                protocol=PROTOCOL,
                articles=articles,
                weights_digest=weights_digest,
                measured_on=measured_on,
                tokenizer_digest=str(known.get("tokenizer_digest", "")),
                merged=bool(known.get("merged", True)),
                unit=unit,
                bits_per_byte=_number(score["bits_per_byte"]) if "bits_per_byte" in score else None,
            )
        except (KeyError, TypeError, ValueError):
            return cls("", PROTOCOL, (), weights_digest, measured_on)

    @property
    def nll(self) -> float:
        return math.fsum(nll for nll, _ in self.articles)

    @property
    def size(self) -> int:
        """The size of the text in words or bytes."""
        return sum(size for _, size in self.articles)

    @property
    def measure(self) -> float:
        """Word perplexity, or bits per byte."""
        return exp_mean(self.nll, self.size) if self.unit == "word" else self.nll / math.log(2) / self.size

    @property
    def described(self) -> str:
        """The measure as text."""
        return (
            f"word perplexity {format_measure(self.measure)}"
            if self.unit == "word"
            else f"bits per byte {self.measure:.4f}"
        )


@dataclass(frozen=True)
class Verdict:
    """The decision of the gate.

    Attributes:
        word: `promote`, `keep`, `incomparable` or `invalid`.
        reason: a sentence for people, with the numbers.
        difference: challenger minus champion in nats per unit; None if they were not compared.
        interval: the bootstrap interval of the difference at the rule's confidence.
        alias: the alias for the challenger, or None.
        unit: the unit of the comparison.
    """

    word: Outcome  # the key in evaluation.json
    reason: str
    difference: float | None = None
    interval: tuple[float, float] | None = None
    alias: Alias | None = None
    unit: Unit = "word"


def gate(challenger: Scores, champion: Scores | None, rule: Rule | None = None) -> Verdict:
    """Decides whether the challenger is promoted. Equal arguments give equal verdicts.

    Args:
        challenger: the scores of the new model.
        champion: the scores of the champion; None if there is none, and then any valid model is promoted. A champion
            whose scores were deleted is `Scores.from_evaluation(None, …)` and is never replaced.
        rule: the rule; by default `Rule()`.

    Returns:
        `invalid` if the challenger's scores cannot be used; `incomparable` if the champion's scores cannot be compared
        with them or either was measured on other weights; `promote` if the challenger is better by the margin and the
        interval excludes zero; else `keep`. A model with the champion's weights gets `keep` and no alias.
    """
    rule = rule or Rule()
    return replace(_decide(challenger, champion, rule), unit=challenger.unit)


def _decide(challenger: Scores, champion: Scores | None, rule: Rule) -> Verdict:
    if flaw := _flaw(challenger) or _excess(challenger):
        return Verdict("invalid", f"The scores of this model cannot be used: {flaw}.")
    if why := _foreign(challenger):
        return _verdict("incomparable", f"The scores of this model are not its own: {why}.", rule)
    if champion is None:
        reason = f"It is the first model of its name: {challenger.described} on validation."
        return _verdict("promote", reason, rule)
    if challenger.weights_digest == champion.weights_digest:
        return Verdict("keep", "The champion has the same weights.", difference=0.0, interval=(0.0, 0.0))
    if why := _flaw(champion) or _foreign(champion):
        return _verdict("incomparable", f"The champion's scores cannot be used: {why}.", rule)
    if why := _mismatch(challenger, champion):
        return _verdict("incomparable", f"It cannot be compared with the champion: {why}.", rule)
    return _compare(challenger, champion, rule)


def bootstrap(
    challenger: Scores, champion: Scores, *, confidence: float, resamples: int, seed: int
) -> tuple[float, tuple[float, float]]:
    """The difference in nats per unit and its percentile interval; articles are resampled with replacement.

    A resample's difference is the sum of its articles' differences over the sum of their sizes (Efron and Tibshirani,
    An Introduction to the Bootstrap, 1993, chapters 10 and 13).
    """
    import numpy as np

    ours, theirs = np.array(challenger.articles), np.array(champion.articles)
    gain, size = ours[:, 0] - theirs[:, 0], ours[:, 1]
    drawn = np.random.default_rng(seed).integers(len(gain), size=(resamples, len(gain)))
    means = gain[drawn].sum(axis=1) / size[drawn].sum(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(gain.sum() / size.sum()), (float(low), float(high))


def _compare(challenger: Scores, champion: Scores, rule: Rule) -> Verdict:
    difference, interval = bootstrap(
        challenger, champion, confidence=rule.confidence, resamples=rule.resamples, seed=rule.seed
    )
    unit, margin = challenger.unit, rule.margin if challenger.unit == "word" else rule.margin / BYTES_OF_A_WORD
    theirs = format_measure(champion.measure) if unit == "word" else f"{champion.measure:.4f}"
    places = 4 if unit == "word" else 5
    low, high = (f"{bound:+.{places}f}" for bound in interval)
    numbers = (
        f"{challenger.described} against {theirs} of the champion on validation,"
        f" {difference:+.{places}f} nats per {unit}, {rule.confidence:.0%} interval {low} to {high}"
        f" over {len(challenger.articles)} articles"
    )
    if difference <= -margin and interval[1] < 0:
        return _verdict("promote", f"Better: {numbers}.", rule, difference, interval)
    if difference > 0 and interval[0] > 0:
        word = "Worse"
    elif difference < 0 and interval[1] < 0:
        word = f"Better by less than the margin of {margin:g} nats per {unit}"
    else:
        word = "Difference not significant"
    return _verdict("keep", f"{word}: {numbers}.", rule, difference, interval)


def _verdict(
    outcome: Outcome,
    reason: str,
    rule: Rule,
    difference: float | None = None,
    interval: tuple[float, float] | None = None,
) -> Verdict:
    alias: Alias | None = "champion" if outcome == "promote" else "challenger"
    if rule.policy == "manual":
        alias = "challenger"
        if outcome == "promote":
            reason += " The policy is manual, so a person decides."
    if rule.policy == "never":
        alias = None
        if outcome == "promote":
            reason += " The policy is never, so no alias is moved."
    return Verdict(outcome, reason, difference, interval, alias)


def _flaw(scores: Scores) -> str | None:
    if not scores.articles or scores.size <= 0:
        return "there are none"
    if not scores.merged:
        return "they were measured with a prefix, which cannot be merged into the weights that would be served"
    for index, (nll, size) in enumerate(scores.articles, start=1):
        if not math.isfinite(nll) or nll < 0 or size < 0:
            return f"article {index} has {nll} nats over {size} {scores.unit}s"
    return None


def _excess(challenger: Scores) -> str | None:
    """The reason why a challenger with finite scores is broken, or None. A champion that is as bad can be replaced."""
    bits = challenger.bits_per_byte
    if bits is None:
        return None if math.isfinite(challenger.measure) else f"word perplexity is {challenger.measure}"
    # NaN must fail the comparison.
    return None if bits <= _MOST_BITS else f"bits per byte are {format_measure(bits, 1)}, and guessing has fewer"


def _foreign(scores: Scores) -> str | None:
    if scores.weights_digest and scores.measured_on == scores.weights_digest:
        return None
    if not (scores.measured_on and scores.weights_digest):
        return "the weights that they were measured on were not recorded"
    return f"they were measured on weights {scores.measured_on[:12]}…, and it has {scores.weights_digest[:12]}…"


def _mismatch(challenger: Scores, champion: Scores) -> str | None:
    if challenger.text_sha256 != champion.text_sha256:
        ours, theirs = challenger.text_sha256[:12], champion.text_sha256[:12]
        return f"the validation texts differ, sha256 {ours}… here and {theirs}… there"
    if challenger.protocol != champion.protocol:
        return f"it was scored by {challenger.protocol}, the champion by {champion.protocol}"
    if challenger.unit != champion.unit:
        return f"it was measured by {challenger.unit}s, the champion by {champion.unit}s"
    if [size for _, size in challenger.articles] != [size for _, size in champion.articles]:
        return (
            f"its text was split into {len(challenger.articles)} articles, the champion's into {len(champion.articles)}"
        )
    if len(challenger.articles) < _FEWEST_PAIRS:
        return f"{len(challenger.articles)} articles are too few for an interval, {_FEWEST_PAIRS} are needed"
    return None


def _number(value: Any) -> float:
    """A number of an evaluation, in which null means a number that is not finite."""
    return math.nan if finite(value) is None else float(value)
