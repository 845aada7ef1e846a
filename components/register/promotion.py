"""Where a new version stands: the gate's word about it, and the aliases that follow from it, safe against other runs.

An alias cannot be moved on a condition, so two runs may both find themselves better than the champion and both move
the alias. Every run therefore says first, by a tag, that its version is approved; moves the alias; and reads again
until the alias stands on the best version that was approved since it began. Whoever moves the alias last sees all
approvals that were there before, so the last word is right whatever the order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.shared import registry
from components.shared.failure import Failure
from components.shared.gate import Verdict

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

APPROVAL = "wikigpt.approval"
PERPLEXITY = registry.score_tag("validation", "word_perplexity")
OPEN, SETTLED = "open", "settled"
_ROUNDS = 50

Judge = Callable[["ModelVersion | None"], Verdict]


@dataclass(frozen=True)
class Placed:
    """The outcome for one version.

    Attributes:
        word: of the gate.
        reason: a sentence for people.
        alias: that stands on the version because of it, or None.
        rival: the version it was compared with, or None.
    """

    word: str
    reason: str
    alias: str | None
    rival: str | None


def place(client: MlflowClient, model: str, version: str, judge: Judge) -> Placed:
    """Judges a version against the champion and moves the alias that follows; safe to repeat.

    Args:
        client: of the registry.
        model: the name of the registered model.
        version: registered and READY.
        judge: the gate for this version against the champion, or against nothing.

    Raises:
        Failure: the alias would not come to rest.
    """
    ours = client.get_model_version(model, version)
    # Read before the champion: what was settled by now has had its effect on the alias, and whatever a person did with
    # the alias since is not undone by it.
    settled = {str(v.version) for v in registry.versions(client, model) if v.tags.get(APPROVAL) == SETTLED}
    champion = registry.holder(client, model, registry.CHAMPION)
    if champion and str(champion.version) == version:
        if ours.tags.get(APPROVAL) == OPEN:
            return _contend(client, model, version, judge, settled, base=ours.tags.get(registry.CHAMPION_BEFORE))
        return Placed(
            ours.tags.get(registry.VERDICT, "promote"), ours.tags.get(registry.REASON, ""), registry.CHAMPION, None
        )
    if registry.ROLLED_BACK in ours.tags:
        reason = f"Version {version} was champion and was rolled back, so only a person promotes it."
        return _challenge(client, model, version, Verdict("keep", reason, alias="challenger"), champion)
    verdict = judge(champion)
    if verdict.alias != registry.CHAMPION:
        return _challenge(client, model, version, verdict, champion)
    _record(client, model, version, verdict, champion)
    client.set_model_version_tag(model, version, APPROVAL, OPEN)
    return _contend(client, model, version, judge, settled - {version}, base=str(champion.version) if champion else "")


def _contend(
    client: MlflowClient, model: str, version: str, judge: Judge, settled: set[str], *, base: str | None
) -> Placed:
    for _ in range(_ROUNDS):
        champion = registry.holder(client, model, registry.CHAMPION)
        standing = str(champion.version) if champion else ""
        contenders = _contenders(client, model, settled)
        best = min(contenders, key=lambda number: (contenders[number], int(number)), default=version)
        if standing == best == version:
            client.set_model_version_tag(model, version, APPROVAL, SETTLED)
            client.set_registered_model_tag(model, registry.LAST_CHAMPION, version)
            tags = client.get_model_version(model, version).tags
            return Placed(tags[registry.VERDICT], tags[registry.REASON], registry.CHAMPION, base or None)
        if standing == best:
            return _challenge(client, model, version, judge(champion), champion)
        if standing != base and standing not in contenders:  # somebody chose another champion since we looked
            verdict = judge(champion)
            if verdict.alias != registry.CHAMPION:
                return _challenge(client, model, version, verdict, champion)
            _record(client, model, version, verdict, champion)
            base = standing
        client.set_registered_model_alias(model, registry.CHAMPION, best)
    raise Failure(
        f"The alias {registry.CHAMPION} was moved {_ROUNDS} times by others while version {version} was placed",
        where=f"{client.tracking_uri}, model {model}",
        remedy="let one run finish, then run again",
    )


def _contenders(client: MlflowClient, model: str, settled: set[str]) -> dict[str, float]:
    """The versions that were approved since this run began, with their word perplexity on validation."""
    approved = (v for v in registry.versions(client, model) if v.tags.get(APPROVAL) and str(v.version) not in settled)
    scores = {str(v.version): float(v.tags[PERPLEXITY]) for v in approved if registry.ROLLED_BACK not in v.tags}
    return {version: score for version, score in scores.items() if math.isfinite(score)}


def _challenge(
    client: MlflowClient, model: str, version: str, verdict: Verdict, champion: ModelVersion | None
) -> Placed:
    """The version stays below the champion, with the alias challenger unless the gate gives none."""
    _record(client, model, version, verdict, champion)
    if client.get_model_version(model, version).tags.get(APPROVAL):
        client.set_model_version_tag(model, version, APPROVAL, SETTLED)
    if verdict.alias:
        client.set_registered_model_alias(model, registry.CHALLENGER, version)
    alias = registry.CHALLENGER if verdict.alias else None
    return Placed(verdict.word, verdict.reason, alias, str(champion.version) if champion else None)


def _record(client: MlflowClient, model: str, version: str, verdict: Verdict, champion: ModelVersion | None) -> None:
    tags = {
        registry.VERDICT: verdict.word,
        registry.REASON: verdict.reason,
        registry.CHAMPION_BEFORE: champion and str(champion.version),
    }
    for name, value in tags.items():
        if value:
            client.set_model_version_tag(model, version, name, value)
