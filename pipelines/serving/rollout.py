"""Rolls the wanted version out on a cluster by Kubernetes' own rolling update, in stages, or takes it back.

1. canary: one patch names the new version in the pod template and sets `minReadySeconds` to a month. With `maxSurge: 1`
   and `maxUnavailable: 0` Kubernetes then starts one pod of the new version beside the old ones. The pod gets its share
   of the requests once it is ready, but it does not count as available, so that Kubernetes replaces no other pod. This
   state holds by itself, also if this process is killed.
2. The smoke test asks this pod, and an old one for comparison.
3. 25, 50, 100: with a short `minReadySeconds` Kubernetes replaces one pod after another. The Deployment is paused once
   a share of its pods is new, and the new pods are examined. If this process is killed after the canary has passed,
   Kubernetes may go on without the pause; the next run examines what it finds.
4. A version that fails is taken back by naming the old version in the pod template again. Before the first version
   there is none: the template names none then, and its pods never become available. So `maxUnavailable` is 100 % until
   Kubernetes has removed all pods of the version.

The number of replicas is only read, so it may belong to a HorizontalPodAutoscaler.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from components.shared.base.failure import ExitCode, Failure
from pipelines.serving.deployment import Deployment, Pod
from pipelines.serving.lease import Lease
from pipelines.serving.rollout_pods import Unfit, delay_of, ready, require_fit, starting
from pipelines.serving.rollout_record import RolloutRecord
from pipelines.serving.rollout_registry import RolloutRegistry
from pipelines.serving.rollout_state import ROLLOUT, VERSION, Live, Rollout, next_stage, pods_of
from pipelines.serving.serving_cluster import Conflict, ServingCluster

HOLD = 30 * 24 * 3600  # seconds
SETTLE = 10  # seconds for which a new pod must stay ready before Kubernetes replaces the next one
READY_SECONDS = 900.0
_POLL = 2.0  # seconds
_TESTS = 3  # of one pod that is not ready after its test

Test = Callable[[Pod, "Pod | None", str, Callable[[], object]], "str | None"]


@dataclass
class Roller:
    """One run of `wikigpt rollout`.

    Attributes:
        cluster: the Deployment and its pods.
        registry: what it asks of the registry.
        test: called with a pod of the new version, one of the version before or None, the number of the new version,
            and a function to call between requests; returns why the version must not serve, or None. A Failure says
            nothing about the version.
        ready_seconds: how long it waits for the next pod, and how long a server may take until it is ready.
        report: called with a sentence for each change.
        sleep, clock: replaced in tests.
    """

    cluster: ServingCluster
    registry: RolloutRegistry
    test: Test
    ready_seconds: float = READY_SECONDS
    report: Callable[[str], object] = lambda _: None
    sleep: Callable[[float], object] = time.sleep
    clock: Callable[[], float] = time.time
    _lease: Lease = field(init=False, repr=False)
    _record: RolloutRecord = field(init=False, repr=False)

    def run(self) -> str:
        """Finishes what an earlier run began, then rolls out the wanted version if another one is served.

        Returns:
            The number of the version that is served.

        Raises:
            Busy: another run is at work.
            Failure: the version was taken back, none can be served, or a service cannot be used. What is served goes
                on serving.
        """
        self._lease = Lease(self.cluster, self.clock)
        self._record = RolloutRecord(self.cluster, self._lease)
        with self._lease.held():
            while True:
                seen = self.cluster.deployment()
                if seen.rollout:
                    self._advance(seen, seen.rollout)
                elif seen.version == (wanted := self.registry.wanted(seen.version)):
                    return wanted
                else:
                    self._begin(seen, wanted)

    def _begin(self, seen: Deployment, version: str) -> None:
        if not seen.replicas:
            raise self._held(version, "has no replicas", f"scale deployment/{seen.name} --replicas=1")
        self._require_not_paused(seen, version)
        now = self.clock()
        rollout = Rollout(version=version, before=seen.version, stage="canary", began=now, stage_began=now)
        held = {"paused": False, "minReadySeconds": HOLD, "progressDeadlineSeconds": 2 * HOLD}
        self._lease.renew()
        try:
            self.cluster.patch(seen, {ROLLOUT: rollout.to_text()}, {**held, **_template(version)})
        except Conflict:  # somebody changed it, so that the decision is made again
            return
        self.report(f"One pod of version {version} is started beside {_label(seen.version)}.")

    def _advance(self, seen: Deployment, rollout: Rollout) -> None:
        """Works off one stage, and records the next one in the Deployment."""
        if rollout.stage == "taking back":
            self._finish_taking_back(rollout)
            return
        try:
            self._require_wanted(seen, rollout)
            if rollout.stage == "canary":
                self._test_canary(rollout)
            else:
                self._reach(rollout)
            if rollout.stage == "100":
                self._finish(rollout)
            else:
                self._continue(rollout)
        except Unfit as unfit:
            self._take_back(rollout, unfit)

    def _require_wanted(self, seen: Deployment, rollout: Rollout) -> None:
        if seen.version != rollout.version:
            raise Unfit(f"Somebody set the Deployment to {_label(seen.version)}", rejected=False)
        if not self.registry.exists(rollout.version):
            raise Unfit("The version was deleted from the registry during its rollout")
        try:
            wanted = self.registry.wanted(rollout.version)
        except Failure as failure:
            if failure.exit_code in (ExitCode.UNREACHABLE, ExitCode.UNAUTHORISED, ExitCode.CANCELLED):
                raise  # the registry cannot be asked
            raise Unfit(failure.what, rejected=False) from failure
        if wanted != rollout.version:
            raise Unfit(f"The alias was moved on to version {wanted}", rejected=False)

    def _test_canary(self, rollout: Rollout) -> None:
        """Tests a pod of the new version. A finding counts if the pod is still ready afterwards."""
        tests: Counter[str] = Counter()
        while True:
            canary, old = self._wait_for_canary(rollout)
            found = self._test(canary, old, rollout.version)
            if found is None:
                self.report(f"Pod {canary.name} of version {rollout.version} passed the smoke test.")
                return
            tests[canary.name] += 1
            still = [pod.name for pod in ready(self._examine(rollout)[1], rollout.version)]
            if canary.name in still or tests[canary.name] == _TESTS:
                raise found
            self.report(f"Pod {canary.name} went away during its smoke test, which is made again.")

    def _wait_for_canary(self, rollout: Rollout) -> tuple[Pod, Pod | None]:
        """A pod of the new version, and one of the version before if there is one."""
        until = rollout.stage_began + self.ready_seconds
        while True:
            seen, pods = self._examine(rollout)
            self._require_not_paused(seen, rollout.version)
            if not seen.replicas:  # if it is scaled up again, all pods would be of a version that was not tested
                raise Unfit("The Deployment has no replicas", rejected=False)
            old = ready(pods, rollout.before) if rollout.before else []
            if canaries := ready(pods, rollout.version):
                return canaries[0], old[0] if old else None
            self._wait(until, seen, pods, rollout)

    def _test(self, canary: Pod, old: Pod | None, version: str) -> Unfit | Failure | None:
        try:
            problem = self.test(canary, old, version, self._lease.renew)
        except Failure as failure:
            return failure
        return Unfit(problem) if problem else None

    def _reach(self, rollout: Rollout) -> None:
        """Waits until the share of a stage is new, and pauses the Deployment there."""
        most, until = -1, 0.0
        while True:
            seen, pods = self._examine(rollout)
            new = len(ready(pods, rollout.version))
            if seen.settled if rollout.stage == "100" else new >= pods_of(rollout.stage, seen.replicas):
                break
            if seen.paused:  # an earlier run was killed there, and more pods are wanted since
                self._record.write(rollout, rollout, {"paused": False})
            if new > most:
                most, until = new, self.clock() + self.ready_seconds
            self._wait(until, seen, pods, rollout)
        if rollout.stage != "100":
            self._record.write(rollout, rollout, {"paused": True})
            self.sleep(SETTLE)
            before = ready(pods, rollout.version)
            seen, pods = self._examine(rollout)
            unready = {pod.name for pod in pods if not pod.ready}
            if lost := [pod.name for pod in before if pod.name in unready]:  # not one that a drained node took along
                raise Unfit(f"Pod {lost[0]} did not stay ready for {SETTLE} s")
        self.report(f"{new} of {seen.replicas} pods serve version {rollout.version}.")

    def _continue(self, rollout: Rollout) -> None:
        seen, pods = self._examine(rollout)
        stage = next_stage(len(ready(pods, rollout.version)), seen.replicas)
        self._record.write(rollout, rollout.at(stage, self.clock()), self._rolling())

    def _finish(self, rollout: Rollout) -> None:
        self.registry.accept(rollout.version)
        self._record.write(rollout, None, live=Live(rollout.version, self.clock()))
        self.report(f"Version {rollout.version} is live; it replaces {_label(rollout.before)}.")

    def _take_back(self, rollout: Rollout, unfit: Unfit) -> None:
        back = replace(rollout.at("taking back", self.clock()), reason=str(unfit), rejected=unfit.rejected)
        strategy = _most_unavailable("100%") if _removes(back) else {}
        self._record.write(rollout, back, {**self._rolling(), **_template(rollout.before or None), **strategy})
        self.report(f"Version {rollout.version} is taken back: {unfit}.")

    def _finish_taking_back(self, rollout: Rollout) -> None:
        if rollout.rejected and not rollout.recorded:
            self.registry.reject(rollout.version, rollout.before, rollout.reason)
            before, rollout = rollout, replace(rollout, recorded=True)
            self._record.write(before, rollout)
        if rollout.before or rollout.rejected:
            self._wait_until_back(rollout)
        self._record.write(rollout, None, _most_unavailable(0) if _removes(rollout) else None)
        if rollout.rejected:
            by = "" if rollout.before else " by `wikigpt promote`"
            raise Failure(
                f"Version {rollout.version} failed its rollout: {rollout.reason}",
                where=f"Deployment {self.cluster.name} in namespace {self.cluster.namespace}",
                remedy=f"{_label(rollout.before)} is served; correct the reason and promote the version again{by}",
            )

    def _wait_until_back(self, rollout: Rollout) -> None:
        """Waits for the pods of the version before, or, if there is none, for the end of those of the version.

        A person who promotes another version meanwhile is not kept waiting for pods that do not come back.
        """
        until = self.clock() + self.ready_seconds
        while True:
            seen = self._record.look(rollout)
            pods = self.cluster.pods(seen.selector)
            if not any(pod.version == rollout.version for pod in pods) if _removes(rollout) else seen.settled:
                return
            if self.clock() >= until:
                if self._another_is_wanted(rollout):
                    return
                trouble = next((pod.trouble for pod in pods if pod.trouble), "")
                what = f"Not all pods of version {rollout.before} are back"
                if _removes(rollout):
                    what = f"Not all pods of version {rollout.version} are gone"
                raise Failure(
                    f"{what}{f': {trouble}' if trouble else ''}",
                    where=f"Deployment {self.cluster.name} in namespace {self.cluster.namespace}",
                    remedy="look at its pods by `kubectl describe`; the next run waits again",
                    exit_code=ExitCode.TIMED_OUT,
                )
            self.sleep(_POLL)

    def _another_is_wanted(self, rollout: Rollout) -> bool:
        with suppress(Failure):  # none is wanted
            return self.registry.wanted(rollout.before) not in (rollout.before, rollout.version)
        return False

    def _examine(self, rollout: Rollout) -> tuple[Deployment, list[Pod]]:
        """Reads the Deployment and its pods.

        Raises:
            Unfit, Failure: see `require_fit`.
        """
        seen = self._record.look(rollout)
        pods = self.cluster.pods(seen.selector)
        require_fit(pods, rollout.version)
        return seen, pods

    def _wait(self, until: float, seen: Deployment, pods: list[Pod], rollout: Rollout) -> None:
        if (now := self.clock()) < until or starting(pods, rollout.version, now, self.ready_seconds):
            self.sleep(_POLL)
            return
        delay = delay_of(seen, pods, rollout.version, self.ready_seconds)
        if isinstance(delay, Failure):
            self._record.write(rollout, rollout.at(rollout.stage, now))
        raise delay

    def _require_not_paused(self, seen: Deployment, version: str) -> None:
        if seen.paused:
            raise self._held(version, "is paused", f"rollout resume deployment/{seen.name}")

    def _held(self, version: str, why: str, command: str) -> Failure:
        where = f"Deployment {self.cluster.name} in namespace {self.cluster.namespace}"
        remedy = f"version {version} waits for `kubectl -n {self.cluster.namespace} {command}`"
        return Failure(f"The Deployment {why}", where=where, remedy=remedy)

    def _rolling(self) -> dict[str, Any]:
        deadline = max(600, int(self.ready_seconds) + SETTLE)
        return {"paused": False, "minReadySeconds": SETTLE, "progressDeadlineSeconds": deadline}


def _removes(rollout: Rollout) -> bool:
    """Whether a version that is taken back leaves nothing to serve."""
    return rollout.rejected and not rollout.before


def _most_unavailable(pods: int | str) -> dict[str, Any]:
    return {"strategy": {"rollingUpdate": {"maxUnavailable": pods}}}


def _template(version: str | None) -> dict[str, Any]:
    return {"template": {"metadata": {"annotations": {VERSION: version}}}}


def _label(version: str) -> str:
    return f"version {version}" if version else "no version"
