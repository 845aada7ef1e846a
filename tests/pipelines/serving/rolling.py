"""A rollout in a world: the stand-in cluster and a registry in memory, with a process that may be killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import kubernetes.client
import pytest
from kubernetes.client.rest import RESTClientObject

from components.shared.tracking import registry
from pipelines.serving.deployment import Pod
from pipelines.serving.rejection import forget_rejection, reject
from pipelines.serving.rollout import Roller
from pipelines.serving.rollout_registry import RolloutRegistry
from pipelines.serving.serving_cluster import ServingCluster
from pipelines.serving.wanted import wanted_version
from tests.http_servers import serving
from tests.interleavings.fake_registry import FakeRegistry
from tests.pipelines.serving.mortal import Killed, Mortal
from tests.pipelines.serving.stand_in import NAME, NAMESPACE, World, handler_of

MODEL = "wikigpt"


@dataclass
class Life:
    """When a process is killed: after a number of writes, or after a write that `dies` says. A read leaves nothing."""

    writes: int | None = None
    dies: Callable[[], bool] = lambda: False
    made: int = 0
    requests: int = 0

    def write(self) -> None:
        self.made += 1
        if self.dies() or (self.writes is not None and self.made >= self.writes):
            raise Killed


@dataclass
class Scene:
    """A served version 7, and version 8, onto which a person has moved the alias.

    Attributes:
        world: the cluster.
        client: the registry.
        api: the client of Kubernetes' API.
        problem: what the smoke test finds; a function may act before it answers.
        tested: the versions that passed the smoke test.
        said, notices: what the rollout reported, and the notices that it sent.
        life: of the process.
        untested: the largest number of pods of a version that had not passed the smoke test.
    """

    world: World
    client: FakeRegistry
    api: kubernetes.client.ApiClient
    problem: Callable[[], str | None] = lambda: None
    tested: set[str] = field(default_factory=set)
    said: list[str] = field(default_factory=list)
    notices: list[dict[str, Any]] = field(default_factory=list)
    life: Life = field(default_factory=Life)
    untested: int = 0

    @property
    def champion(self) -> str:
        return self.client.models[MODEL].aliases.get("champion", "")

    def promote(self, version: str) -> None:
        """A click in the UI."""
        self.client.set_registered_model_alias(MODEL, "champion", version)

    def tags(self, version: str) -> dict[str, str]:
        return self.client.models[MODEL].versions[version].tags

    def roller(self, ready_seconds: float = 300.0) -> Roller:
        cluster = ServingCluster(self.api, NAMESPACE, NAME)
        return Roller(cluster, self._registry(), self._test, ready_seconds, self.said.append, self._sleep, self._clock)

    def roll(self) -> str:
        return self.roller().run()

    def _clock(self) -> float:
        return self.world.now

    def _sleep(self, seconds: float) -> None:
        for _ in range(max(1, round(seconds))):
            self.world.advance(1)
            if "8" not in self.tested:
                self.untested = max(self.untested, sum(pod.version == "8" for pod in self.world.pods()))

    def _test(self, new: Pod, old: Pod | None, version: str, between: Callable[[], object]) -> str | None:
        assert new.version == version and new.ready
        assert old is None or old.version != version
        between()
        problem = self.problem()
        if problem is None:
            self.tested.add(version)
        return problem

    def _registry(self) -> RolloutRegistry:
        client: Any = Mortal(self.client, self.life.write)

        def reject_version(version: str, served: str, reason: str) -> None:
            reject(client, MODEL, version, served or None, reason, None, self.notices.append)

        return RolloutRegistry(
            wanted=lambda served: wanted_version(client, MODEL, served).version,
            exists=lambda version: registry.has_version(client, MODEL, version),
            reject=reject_version,
            accept=lambda version: forget_rejection(client, MODEL, version),
        )


@contextmanager
def scene_of(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """Serves the API of a world."""
    monkeypatch.setattr("pipelines.serving.wanted._has_files", lambda *_: True)
    client = FakeRegistry()
    client.create_registered_model(MODEL)
    for number in range(1, 10):
        tags = {registry.WEIGHTS_DIGEST: f"digest-{number}", registry.REGISTERED: "true"}
        client.create_model_version(MODEL, "", tags=tags)
    client.set_registered_model_alias(MODEL, "champion", "8")
    with serving(handler_of(world)) as address:
        settings = kubernetes.client.Configuration(host=address)
        settings.retries = 0
        scene = Scene(world, client, kubernetes.client.ApiClient(settings))
        request = RESTClientObject.request

        def counted(self: RESTClientObject, method: str, *args: Any, **kwargs: Any) -> Any:
            answer = request(self, method, *args, **kwargs)
            scene.life.requests += 1
            if method != "GET":
                scene.life.write()
            return answer

        monkeypatch.setattr(RESTClientObject, "request", counted)
        yield scene
