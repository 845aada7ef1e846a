"""What is live on a cluster, where and since when, and how far a rollout is."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pipelines.serving.deployment import Deployment, Pod
from pipelines.serving.rollout_state import SHARES, Rollout, Stage, next_stage, pods_of
from pipelines.serving.serving_cluster import ServingCluster


@dataclass(frozen=True)
class PodCount:
    """The pods of one version: all of them, and those that get requests."""

    pods: int
    ready: int


@dataclass(frozen=True)
class RolloutStatus:
    """What the Deployment and its pods say.

    Attributes:
        namespace, deployment: where the version is served.
        version: the number of the version in the pod template; "" if none was rolled out.
        since: when the rollout of this version was complete, in UTC; "" if it is not, or somebody else set the version.
        replicas: the number of pods that there should be.
        pods: counts by the number of the version.
        rollout: the rollout in progress, or None.
        trouble: why pods are not ready, by their names.
    """

    namespace: str
    deployment: str
    version: str
    since: str
    replicas: int
    pods: dict[str, PodCount]
    rollout: Rollout | None
    trouble: dict[str, str]


def status_of(cluster: ServingCluster) -> RolloutStatus:
    """Reads what is live.

    Raises:
        Failure: the Deployment cannot be read.
    """
    seen = cluster.deployment()
    pods = cluster.pods(seen.selector)
    live = seen.live if seen.live and seen.live.version == seen.version else None
    return RolloutStatus(
        namespace=cluster.namespace,
        deployment=seen.name,
        version=seen.version,
        since=_time(live.since) if live and not seen.rollout else "",
        replicas=seen.replicas,
        pods={version: _count(pods, version) for version in sorted({pod.version for pod in pods})},
        rollout=seen.rollout,
        trouble={pod.name: pod.trouble for pod in pods if pod.trouble and not pod.ready},
    )


def status_lines(status: RolloutStatus) -> list[str]:
    """The status for people."""
    where = f"Deployment {status.deployment} in namespace {status.namespace}"
    rollout = status.rollout
    if rollout:
        lines = [f"{where}: {_progress(rollout)} since {_time(rollout.began)}"]
    elif status.version:
        since = f" since {status.since}" if status.since else ""
        lines = [f"{where}: version {status.version} is live{since}"]
    else:
        lines = [f"{where}: no version has been rolled out"]
    for version, count in status.pods.items():
        lines.append(f"  {f'version {version}' if version else 'no version'}: {count.ready} of {count.pods} pods ready")
    return [*lines, *(f"  {name}: {trouble}" for name, trouble in status.trouble.items())]


def planned_stages(seen: Deployment, wanted: str) -> list[str]:
    """What a run would do, as sentences in the imperative: first what an earlier run left, then the wanted version."""
    lines: list[str] = []
    served, rollout = seen.version, seen.rollout
    if rollout and (rollout.stage == "taking back" or rollout.version != wanted):
        lines.append(f"take version {rollout.version} back to {_label(rollout.before)}")
        served, rollout = rollout.before, None
    if served == wanted and not rollout:
        return lines
    begin = rollout.stage if rollout else "canary"
    if not rollout:
        lines.append(f"start one pod of version {wanted} beside {_label(served)}")
    if begin == "canary":
        lines.append(
            f"ask it for the completions that were recorded with version {wanted}, and compare its p99 latency"
        )
        begin = next_stage(1, seen.replicas)
    for stage in list(SHARES)[list(SHARES).index(begin) :]:
        count = pods_of(stage, seen.replicas)
        lines.append(f"replace pods until {count} of {seen.replicas} serve version {wanted}, and examine them")
    return [*dict.fromkeys(lines)]


def _count(pods: list[Pod], version: str) -> PodCount:
    own = [pod for pod in pods if pod.version == version]
    return PodCount(len(own), sum(pod.ready for pod in own))


def _progress(rollout: Rollout) -> str:
    if rollout.stage == "taking back":
        return f"version {rollout.version} is taken back to {_label(rollout.before)} ({rollout.reason})"
    stage: Stage = rollout.stage
    share = "one canary" if stage == "canary" else f"{stage} per cent"
    return f"version {rollout.version} replaces {_label(rollout.before)}, stage {share},"


def _label(version: str) -> str:
    return f"version {version}" if version else "no version"


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
