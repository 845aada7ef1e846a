"""Rolls the wanted version out on a cluster by Kubernetes' own rolling update, in stages, or takes it back.

1. canary: one patch names the new version in the pod template and sets `minReadySeconds` to a month. With `maxSurge: 1`
   and `maxUnavailable: 0` Kubernetes then starts one pod of the new version beside the old ones. The pod gets its share
   of the requests once it is ready, but it does not count as available, so that Kubernetes replaces no other pod. This
   state holds by itself, also if this process is killed.
2. The smoke test asks this pod, and an old one for comparison.
3. 25, 50, 100: with a short `minReadySeconds` Kubernetes replaces one pod after another. The Deployment is paused once
   a share of its pods is new, and the new pods are examined. If this process is killed after the canary has passed,
   Kubernetes may go on without the pause; the next run examines what it finds.
4. A version that fails is taken back by naming the old version in the pod template again.

The number of replicas is only read, so it may belong to a HorizontalPodAutoscaler.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from components.shared.base.failure import ExitCode, Failure
from pipelines.serving.deployment import Deployment, Pod
from pipelines.serving.lease import Lease
from pipelines.serving.rollout_pods import Unfit, ready, require_fit
from pipelines.serving.rollout_record import RolloutRecord
from pipelines.serving.rollout_registry import RolloutRegistry
from pipelines.serving.rollout_state import ROLLOUT, VERSION, Live, Rollout, next_stage, pods_of
from pipelines.serving.serving_cluster import Conflict, ServingCluster

HOLD = 30 * 24 * 3600  # seconds
SETTLE = 10  # seconds for which a new pod must stay ready before Kubernetes replaces the next one
READY_SECONDS = 900.0
_POLL = 2.0  # seconds

Test = Callable[[Pod, "Pod | None", str, Callable[[], object]], "str | None"]


@dataclass
class Roller:
    """One run of `wikigpt rollout`.

    Attributes:
        cluster: the Deployment and its pods.
        registry: what it asks of the registry.
        test: called with a pod of the new version, one of the version before or None, the number of the new version,
            and a function to call between requests; returns why the version must not serve, or None.
        ready_seconds: how long it waits for the next pod to become ready.
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
        if seen.paused or not seen.replicas:
            why = "is paused" if seen.paused else "has no replicas"
            command = f"kubectl -n {self.cluster.namespace} " + (
                f"rollout resume deployment/{seen.name}"
                if seen.paused
                else f"scale deployment/{seen.name} --replicas=1"
            )
            where = f"Deployment {seen.name} in namespace {self.cluster.namespace}"
            raise Failure(f"The Deployment {why}", where=where, remedy=f"version {version} waits for `{command}`")
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
            _raise_unless_of_version(failure)
            raise Unfit(failure.what, rejected=False) from failure
        if wanted != rollout.version:
            raise Unfit(f"The alias was moved on to version {wanted}", rejected=False)

    def _test_canary(self, rollout: Rollout) -> None:
        until = rollout.stage_began + self.ready_seconds
        while not (canaries := ready(pods := self._examine(rollout)[1], rollout.version)):
            self._wait(until, pods, rollout)
        old = ready(pods, rollout.before) if rollout.before else []
        try:
            problem = self.test(canaries[0], old[0] if old else None, rollout.version, self._lease.renew)
        except Failure as failure:
            _raise_unless_of_version(failure)
            problem = failure.what
        if problem:
            raise Unfit(problem)
        self.report(f"Pod {canaries[0].name} of version {rollout.version} passed the smoke test.")

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
            self._wait(until, pods, rollout)
        if rollout.stage != "100":
            self._record.write(rollout, rollout, {"paused": True})
            self.sleep(SETTLE)
            seen, pods = self._examine(rollout)
            if len(ready(pods, rollout.version)) < min(new, pods_of(rollout.stage, seen.replicas)):
                raise Unfit(f"Its pods did not stay ready for {SETTLE} s")
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
        self._record.write(rollout, back, {**self._rolling(), **_template(rollout.before or None)})
        self.report(f"Version {rollout.version} is taken back: {unfit}.")

    def _finish_taking_back(self, rollout: Rollout) -> None:
        if rollout.rejected and not rollout.recorded:
            self.registry.reject(rollout.version, rollout.before, rollout.reason)
            before, rollout = rollout, replace(rollout, recorded=True)
            self._record.write(before, rollout)
        if rollout.before:
            self._wait_for_old_pods(rollout)
        self._record.write(rollout, None)
        if rollout.rejected:
            raise Failure(
                f"Version {rollout.version} failed its rollout: {rollout.reason}",
                where=f"Deployment {self.cluster.name} in namespace {self.cluster.namespace}",
                remedy=f"{_label(rollout.before)} is served; correct the reason and promote the version again",
            )

    def _wait_for_old_pods(self, rollout: Rollout) -> None:
        until = self.clock() + self.ready_seconds
        while not (seen := self._record.look(rollout)).settled:
            if self.clock() >= until:
                trouble = next((pod.trouble for pod in self.cluster.pods(seen.selector) if pod.trouble), "")
                raise Failure(
                    f"Not all pods of version {rollout.before} are back{f': {trouble}' if trouble else ''}",
                    where=f"Deployment {self.cluster.name} in namespace {self.cluster.namespace}",
                    remedy="look at its pods by `kubectl describe`; the next run waits again",
                    exit_code=ExitCode.TIMED_OUT,
                )
            self.sleep(_POLL)

    def _examine(self, rollout: Rollout) -> tuple[Deployment, list[Pod]]:
        """Reads the Deployment and its pods.

        Raises:
            Unfit: a pod of the new version says that it must not serve.
        """
        seen = self._record.look(rollout)
        pods = self.cluster.pods(seen.selector)
        require_fit(pods, rollout.version)
        return seen, pods

    def _wait(self, until: float, pods: list[Pod], rollout: Rollout) -> None:
        if self.clock() < until:
            self.sleep(_POLL)
            return
        own = [pod for pod in pods if pod.version == rollout.version]
        if unscheduled := next((pod.unscheduled for pod in own if pod.unscheduled), ""):
            self._record.write(rollout, rollout.at(rollout.stage, self.clock()))
            raise Failure(
                f"There is no room for the next pod of version {rollout.version}: {unscheduled}",
                where=f"Deployment {self.cluster.name} in namespace {self.cluster.namespace}",
                remedy="make room for one pod more; the next run waits again",
                exit_code=ExitCode.TIMED_OUT,
            )
        reason = f"Its next pod was not ready within {self.ready_seconds:g} s"
        trouble = next((pod.trouble for pod in own if pod.trouble), "")
        raise Unfit(f"{reason}: {trouble}" if trouble else reason)

    def _rolling(self) -> dict[str, Any]:
        deadline = max(600, int(self.ready_seconds) + SETTLE)
        return {"paused": False, "minReadySeconds": SETTLE, "progressDeadlineSeconds": deadline}


def _raise_unless_of_version(failure: Failure) -> None:
    """A service that cannot be used and a rollout that was taken over say nothing against the version."""
    if failure.exit_code in (ExitCode.UNREACHABLE, ExitCode.UNAUTHORISED, ExitCode.CANCELLED):
        raise failure


def _template(version: str | None) -> dict[str, Any]:
    return {"template": {"metadata": {"annotations": {VERSION: version}}}}


def _label(version: str) -> str:
    return f"version {version}" if version else "no version"
