"""The progress of a rollout, which is kept in annotations of the Deployment and nowhere else.

The version is an annotation of the pod template, from which the init container reads it. So a pod serves one version
by number for its whole life, Kubernetes makes a ReplicaSet for each version, and its own history shows the versions.
The manifests contain none of these annotations, so applying them again changes nothing here.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from typing import Literal

VERSION = "wikigpt/version"  # of the pod template: the number of the version that its pods serve
ROLLOUT = "wikigpt/rollout"  # of the Deployment: the rollout in progress, as JSON
LIVE = "wikigpt/live"  # of the Deployment: the version that was rolled out last, as JSON

Stage = Literal["canary", "25", "50", "100", "taking back"]
SHARES: dict[Stage, float] = {"25": 0.25, "50": 0.5, "100": 1.0}


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A rollout in progress.

    Attributes:
        version: the number of the version that is rolled out.
        before: the number of the version that was served before; "" if there was none.
        stage: how far it is. In the stage `canary` one pod serves the version; the numbers are percentages of pods.
        began: when it began, in seconds since 1970.
        stage_began: when the stage began.
        reason: why the version is taken back.
        rejected: whether it is taken back because it failed, and not because it is no longer wanted.
        recorded: whether the registry knows that it failed.
    """

    version: str
    before: str
    stage: Stage
    began: float
    stage_began: float
    reason: str = ""
    rejected: bool = False
    recorded: bool = False

    def to_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Rollout:
        return cls(**json.loads(text))

    def at(self, stage: Stage, now: float) -> Rollout:
        """The same rollout in another stage."""
        return replace(self, stage=stage, stage_began=now)


@dataclass(frozen=True)
class Live:
    """The version that was rolled out last.

    Attributes:
        version: its number.
        since: when the rollout was complete, in seconds since 1970.
    """

    version: str
    since: float

    def to_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> Live:
        return cls(**json.loads(text))


def next_stage(ready: int, replicas: int) -> Stage:
    """The first stage that needs more pods of the new version than are ready; 100 at the latest."""
    return next((stage for stage in SHARES if pods_of(stage, replicas) > ready), "100")


def pods_of(stage: Stage, replicas: int) -> int:
    """The number of pods of the new version with which a stage is reached."""
    return math.ceil(SHARES[stage] * replicas)
