"""Scores several versions of a registered model together, from the log-probabilities kept with their evaluations.

An ensemble predicts each token with the weighted mean of the probabilities of its members. For an observed token that
needs only the probability that each member gave to it, so neither models nor text are read.

All members must have one tokenizer. A word that they divide into different tokens has a probability too, the product of
its tokens, but that is the probability that the text goes on with these characters: only the next token tells whether
the word ends there. Means of such products are not a distribution over words, because they can add up to more than one.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.evaluate.log_probabilities import KeptLogProbabilities, KeptSplit, read_log_probabilities
from components.shared.base.failure import ExitCode, Failure
from components.shared.text.articles import HELD_OUT
from components.shared.text.units import exp_mean
from components.shared.tracking import registry
from pipelines.registry.references import resolve
from pipelines.registry.verification import require_verified

if TYPE_CHECKING:
    import numpy as np

    from components.shared.tracking.sqlite_registry import AnyVersion, RegistryReader

_ITERATIONS = 200
_TOLERANCE = 1e-9  # nats per token
# What a split must have in common with that of another version, and how a person calls it.
_COMPARED = {
    "text_sha256": "text",
    "window": "window",
    "stride": "stride",
    "bos": "token before the text",
    "scored_tokens": "number of scored tokens",
}


@dataclass(frozen=True)
class Measures:
    """The measures of a split; None if the text does not have the measure, or it is not finite."""

    word_perplexity: float | None
    token_perplexity: float | None
    bits_per_byte: float | None


@dataclass(frozen=True)
class Member:
    """A version of the ensemble with its own scores, as its evaluation measured them.

    Attributes:
        version: its number.
        weight: its weight in the mean.
        validation, test: its own measures.
    """

    version: str
    weight: float
    validation: Measures
    test: Measures


@dataclass(frozen=True)
class Ensemble:
    """Several versions scored together.

    Attributes:
        model: the name of the registered model.
        protocol: the protocol of all scores.
        window, stride: its parameters, in tokens.
        fitted: whether the weights were chosen on validation, so that its validation scores are optimistic.
        members: the versions.
        validation, test: the measures of all of them together.
    """

    model: str
    protocol: str
    window: int
    stride: int
    fitted: bool
    members: tuple[Member, ...]
    validation: Measures
    test: Measures


def score_ensemble(
    client: RegistryReader, references: Sequence[str], model: str | None = None, *, fit_weights: bool = False
) -> Ensemble:
    """Scores versions of one registered model together.

    Args:
        client: a client of the registry, or the database.
        references: two or more versions, see `resolve`.
        model: the name of the registered model.
        fit_weights: whether the weights are those with the least negative log-likelihood on validation, by expectation
            maximisation; else they are equal.

    Raises:
        Failure: there are fewer than two versions, one is named twice, they cannot be scored together, or one does not
            verify by the configured public key.
    """
    versions = _resolve_all(client, references, model)
    for version in versions:
        require_verified(client, version)
    with tempfile.TemporaryDirectory(prefix="wikigpt-ensemble-") as scratch:
        kept = {str(version.version): _kept(client, version, Path(scratch)) for version in versions}
    _check_tokenizers(kept)
    for split in HELD_OUT:
        _check_split(kept, split)
    stacked = {split: _stack([each.splits[split] for each in kept.values()]) for split in HELD_OUT}
    weights = fitted_weights(stacked["validation"]) if fit_weights else [1 / len(kept)] * len(kept)
    first = next(iter(kept.values()))
    together = {
        split: _measures(first.splits[split].score, -float(mean_log_probability(stacked[split], weights).sum()))
        for split in HELD_OUT
    }
    members = tuple(
        Member(number, weight, **{split: _recorded(each.splits[split].score) for split in HELD_OUT})
        for (number, each), weight in zip(kept.items(), weights, strict=True)
    )
    score = first.splits["test"].score
    return Ensemble(
        versions[0].name, first.protocol, score["window"], score["stride"], fit_weights, members, **together
    )


def mean_log_probability(log_probabilities: np.ndarray, weights: Sequence[float]) -> np.ndarray:
    """Returns the logarithm of the weighted mean of probabilities.

    Args:
        log_probabilities: of the observed tokens, in nats, float64 [members, tokens].
        weights: the weight of each member; they add up to 1.

    Returns:
        In nats, float64 [tokens].
    """
    import numpy as np

    largest = log_probabilities.max(axis=0)
    return largest + np.log(np.asarray(weights) @ np.exp(log_probabilities - largest))


def fitted_weights(log_probabilities: np.ndarray) -> list[float]:
    """Returns the weights of the mixture under which the tokens are most probable.

    Expectation maximisation (Dempster, Laird and Rubin 1977) from equal weights: a weight becomes the mean posterior
    probability of its member. The likelihood is concave in the weights, so this ends near its only maximum.

    Args:
        log_probabilities: of the observed tokens, in nats, float64 [members, tokens].
    """
    import numpy as np

    probabilities = np.exp(log_probabilities - log_probabilities.max(axis=0))
    weights, before = np.full(len(probabilities), 1 / len(probabilities)), -math.inf
    for _ in range(_ITERATIONS):
        mixed = weights @ probabilities
        likelihood = float(np.log(mixed).mean())
        if not likelihood - before > _TOLERANCE:
            break
        weights, before = weights * (probabilities / mixed).mean(axis=1), likelihood
    return weights.tolist()


def _resolve_all(client: RegistryReader, references: Sequence[str], model: str | None) -> list[AnyVersion]:
    versions = [resolve(client, reference, model) for reference in references]
    if len(versions) < 2:
        raise _usage("An ensemble needs two versions or more", "the versions asked for", "name another one")
    if len(names := sorted({version.name for version in versions})) > 1:
        raise _usage(
            f"An ensemble has versions of one registered model, and these are of {' and '.join(names)}",
            "the versions asked for",
            "name versions of one of them",
        )
    numbers = [str(version.version) for version in versions]
    if twice := next((number for number in numbers if numbers.count(number) > 1), None):
        raise _usage(f"Version {twice} is named twice", ", ".join(references), "name each version once")
    return versions


def _kept(client: RegistryReader, version: AnyVersion, folder: Path) -> KeptLogProbabilities:
    import numpy as np

    name = f"models:/{version.name}/{version.version}"
    remedy = "leave it out, or run it again by `wikigpt run --force`, which keeps them if the weights are the same"
    (download := folder / str(version.version)).mkdir()
    path = registry.log_probabilities_of(client, version, download)
    if path is None:
        raise _usage(f"The evaluation of version {version.version} kept no log-probabilities", name, remedy)
    try:
        kept = read_log_probabilities(path)
    except ValueError as error:
        raise _usage(f"The evaluation of version {version.version} is damaged: {error}", name, remedy) from error
    if kept.weights_digest != version.tags.get(registry.WEIGHTS_DIGEST):
        raise _usage(f"The log-probabilities of version {version.version} are those of other weights", name, remedy)
    if not all(np.isfinite(split.log_probabilities).all() for split in kept.splits.values()):
        raise _usage(f"Version {version.version} has log-probabilities that are not finite", name, "leave it out")
    return kept


def _check_tokenizers(kept: dict[str, KeptLogProbabilities]) -> None:
    if len(groups := _grouped(kept, lambda each: each.tokenizer_digest)) > 1:
        raise _usage(
            "Probabilities of tokens can only be averaged between versions with the same tokenizer",
            _listed(groups),
            "name versions of one group, or train with one tokenizer by tokenize.tokenizer",
        )


def _check_split(kept: dict[str, KeptLogProbabilities], split: str) -> None:
    for field, words in _COMPARED.items():
        groups = _grouped(kept, lambda each, field=field: each.splits[split].score[field])  # type: ignore[misc]
        if len(groups) > 1:
            raise _usage(
                f"The versions were scored with a different {words} on {split}",
                _listed(groups),
                "name versions of one group, or evaluate them with the same settings on the same corpus",
            )


def _grouped(kept: dict[str, KeptLogProbabilities], value: Callable[[KeptLogProbabilities], Any]) -> list[list[str]]:
    groups: dict[Any, list[str]] = {}
    for number, each in kept.items():
        groups.setdefault(value(each), []).append(number)
    return list(groups.values())


def _listed(groups: list[list[str]]) -> str:
    """The versions that fit together, such as `versions 1, 2 / version 3`."""
    return " / ".join(f"version{'s' if len(group) > 1 else ''} {', '.join(group)}" for group in groups)


def _stack(splits: Sequence[KeptSplit]) -> np.ndarray:
    import numpy as np

    return np.stack([split.log_probabilities.astype(np.float64) for split in splits])


def _recorded(score: dict[str, Any]) -> Measures:
    return _measures(score, score["nll"])


def _measures(score: dict[str, Any], nll: float) -> Measures:
    """The measures of a split of the same size as `score` with this negative log-likelihood, in nats."""
    of_words = score["words"] and score["unit"] == "word"
    return Measures(
        exp_mean(nll, score["words"]) if of_words else None,
        exp_mean(nll, score["scored_tokens"]),
        nll / math.log(2) / score["bytes"] if score["bytes"] else None,
    )


def _usage(what: str, where: str, remedy: str) -> Failure:
    return Failure(what, where=where, remedy=remedy, exit_code=ExitCode.USAGE)
