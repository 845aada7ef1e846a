"""A rollout goes on by stages, or back, whatever fails and whenever its process is killed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import kubernetes.client
import pytest
from mlflow.entities.model_registry import ModelVersion

from components.shared.base.failure import ExitCode, Failure
from pipelines.serving import wanted
from pipelines.serving.lease import SECONDS, Busy
from pipelines.serving.rollout_state import LIVE, ROLLOUT
from pipelines.serving.rollout_status import planned_stages, status_lines, status_of
from pipelines.serving.serving_cluster import ServingCluster
from tests.http_servers import free_port
from tests.pipelines.serving.rolling import MODEL, Killed, Scene, scene_of
from tests.pipelines.serving.stand_in import NAME, NAMESPACE, World


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """Four pods serve version 7, and version 8 is the champion."""
    with scene_of(World(), monkeypatch) as made:
        yield made


def annotations(scene: Scene) -> dict[str, str]:
    return scene.world.deployment["metadata"].get("annotations", {})


def assert_served(scene: Scene, version: str, replicas: int = 4) -> None:
    """All pods serve a version, no rollout is in progress, and no request found fewer pods than before."""
    scene.world.advance(60)
    assert {pod.version for pod in scene.world.pods()} == {version}
    assert scene.world.count(version) == replicas
    assert scene.world.version == version
    assert ROLLOUT not in annotations(scene)
    assert scene.world.least_ready >= replicas


def test_the_stages_up_to_all_pods(scene: Scene) -> None:
    assert scene.roll() == "8"
    assert_served(scene, "8")
    assert scene.untested == 1
    assert json.loads(annotations(scene)[LIVE])["version"] == "8"
    assert scene.said[0] == "One pod of version 8 is started beside version 7."
    assert scene.said[1].endswith("of version 8 passed the smoke test.")
    assert scene.said[2:] == [
        "2 of 4 pods serve version 8.",
        "4 of 4 pods serve version 8.",
        "Version 8 is live; it replaces version 7.",
    ]
    assert scene.champion == "8"
    assert scene.world.lease["spec"]["holderIdentity"] == ""
    before = scene.life.requests
    assert scene.roll() == "8", "nothing is left to do"
    assert scene.life.requests - before == 4, "it reads the Deployment, and takes and releases the Lease"


@pytest.mark.parametrize(("replicas", "stages"), [(1, [1]), (2, [2]), (3, [2, 3]), (8, [2, 4, 8])])
def test_a_stage_that_the_canary_reaches_is_left_out(
    replicas: int, stages: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with scene_of(World(replicas), monkeypatch) as scene:
        scene.roll()
        assert_served(scene, "8", replicas)
        shares = [line for line in scene.said if "pods serve" in line]
        assert shares == [f"{count} of {replicas} pods serve version 8." for count in stages]


def test_the_first_version(monkeypatch: pytest.MonkeyPatch) -> None:
    with scene_of(World(2, version=""), monkeypatch) as scene:
        assert scene.roll() == "8"
        scene.world.advance(60)
        assert scene.world.count("8") == 2
        assert {pod.version for pod in scene.world.pods()} == {"8"}


def test_a_canary_that_fails_is_taken_back(scene: Scene) -> None:
    scene.problem = lambda: "Only 1 of 4 completions begin as those that were recorded with the version"
    with pytest.raises(Failure, match="Version 8 failed its rollout: Only 1 of 4 completions") as failed:
        scene.roll()
    assert failed.value.exit_code == ExitCode.FAILED
    assert "version 7 is served" in str(failed.value)
    assert_served(scene, "7")
    assert (scene.untested, scene.champion) == (1, "7")
    assert scene.tags("8")["wikigpt.rollout_failed"].startswith("Only 1 of 4")
    assert [notice["served"] for notice in scene.notices] == ["7"]
    assert scene.roll() == "7", "the next run does not try it again"

    scene.problem = lambda: None
    scene.promote("8")
    assert scene.roll() == "8"
    assert_served(scene, "8")
    assert not [tag for tag in scene.tags("8") if "roll" in tag]


def test_a_version_is_verified_once_and_not_started_if_it_does_not_verify(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    verified: list[str] = []
    monkeypatch.setattr(wanted, "require_verified", lambda _, version: verified.append(version.version))
    assert scene.roll() == "8"
    assert scene.roll() == "8"
    assert verified == ["8"]

    def refuse(_: object, version: ModelVersion) -> None:
        what = f"Version {version.version} of wikigpt does not verify"
        raise Failure(what, where="models:/wikigpt/7", remedy="use another")

    monkeypatch.setattr(wanted, "require_verified", refuse)
    scene.promote("7")
    with pytest.raises(Failure, match="Version 7 of wikigpt does not verify"):
        scene.roll()
    assert_served(scene, "8")


@pytest.mark.parametrize("code", [ExitCode.FAILED, ExitCode.UNREACHABLE])
def test_a_test_that_cannot_be_made_says_nothing_against_the_version(scene: Scene, code: ExitCode) -> None:
    def fail() -> None:
        raise Failure("The Lease cannot be written", where="Lease wikigpt-server", remedy="wait", exit_code=code)

    scene.problem = fail
    with pytest.raises(Failure, match="The Lease cannot be written") as failed:
        scene.roll()
    assert failed.value.exit_code == code
    assert (scene.champion, scene.world.count("7"), scene.untested) == ("8", 4, 1)
    scene.problem = lambda: None
    assert scene.roll() == "8"


@pytest.mark.parametrize("replicas", [1, 3])
def test_a_first_version_that_fails_serves_nobody(replicas: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pod is the only one that is ready, and Kubernetes would keep it for that."""
    with scene_of(World(replicas, version=""), monkeypatch) as scene:
        scene.problem = lambda: "It answers nonsense"
        with pytest.raises(Failure, match=r"no version is served; .* promote the version again by `wikigpt promote`"):
            scene.roll()
        scene.world.advance(60)
        assert {pod.version for pod in scene.world.pods()} == {""}
        assert scene.world.deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        with pytest.raises(Failure, match="Version 8 of wikigpt failed its rollout"):
            scene.roll()
        scene.promote("9")
        scene.problem = lambda: None
        assert scene.roll() == "9"


def test_a_first_version_that_fails_after_its_canary_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    with scene_of(World(3, version=""), monkeypatch) as scene:
        scene.world.crashing = {"8": 8.0}
        with pytest.raises(Failure, match="was restarted: server ended with Error: RuntimeError: no kernel"):
            scene.roll()
        assert {pod.version for pod in scene.world.pods()} == {""}


def test_a_server_that_never_becomes_ready(scene: Scene) -> None:
    scene.world.broken = {"8"}
    with pytest.raises(Failure, match="Version 8 failed its rollout: Its next pod was not ready within 60 s"):
        scene.roller(ready_seconds=60).run()
    assert_served(scene, "7")
    assert scene.champion == "7"


def waits(scene: Scene, match: str, code: ExitCode = ExitCode.TIMED_OUT) -> None:
    """A run ends with a sentence, the version keeps the alias, and what was served is served."""
    with pytest.raises(Failure, match=match) as waiting:
        scene.roller(ready_seconds=60).run()
    assert waiting.value.exit_code == code
    assert (scene.champion, scene.notices, scene.world.count("7")) == ("8", [], 4)
    assert "wikigpt.rollout_failed" not in scene.tags("8")


def goes_on(scene: Scene) -> None:
    assert scene.roller(ready_seconds=60).run() == "8"
    assert_served(scene, "8")


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "CreateContainerConfigError", "PodInitializing"])
def test_a_server_that_cannot_be_started_says_nothing_against_the_version(scene: Scene, reason: str) -> None:
    """An image that cannot be pulled, a missing Secret, a volume that cannot be mounted."""
    scene.world.waiting = {"8": reason}
    said = "" if reason == "PodInitializing" else f": server waits: {reason}"
    for _ in range(2):
        waits(scene, f"The server in the next pod of version 8 has not started{said}")
    scene.world.waiting.clear()
    goes_on(scene)


def test_pods_that_kubernetes_does_not_make_say_nothing_against_the_version(scene: Scene) -> None:
    scene.world.refused = {"8"}
    waits(scene, "Kubernetes makes no further pod of version 8")
    scene.world.refused.clear()
    goes_on(scene)


def test_a_server_that_starts_late_has_its_whole_time(scene: Scene) -> None:
    """The pod waits for room and its image nearly as long as a rollout waits, and starts slowly then."""
    scene.world.without_node, scene.world.start_seconds = {"8"}, 50

    def room(_: float, sleep: Callable[[float], object] = scene._sleep) -> None:
        if scene.world.now > began + 50:
            scene.world.without_node.clear()
        sleep(1)

    began = scene.world.now
    scene._sleep = room  # type: ignore[method-assign]
    goes_on(scene)


@pytest.mark.parametrize("code", [ExitCode.UNREACHABLE, ExitCode.UNAUTHORISED])
def test_a_download_that_the_registry_does_not_answer_says_nothing_against_the_version(
    scene: Scene, code: ExitCode
) -> None:
    scene.world.downloads["8"] = (code, "wikigpt: MLflow does not answer.")
    for _ in range(2):
        waits(scene, "cannot download version 8: download ended with Error: wikigpt: MLflow does not answer", code)
    del scene.world.downloads["8"]
    goes_on(scene)


@pytest.mark.parametrize("happens", ["drain", "evict", "unready", "reboot"])
def test_a_canary_that_goes_away_during_its_smoke_test_is_tested_again(scene: Scene, happens: str) -> None:
    tested = []

    def go_away() -> str | None:
        tested.append(True)
        if len(tested) > 1:
            return None
        getattr(scene.world, happens)("8")
        return "The server does not answer"

    scene.problem = go_away
    goes_on(scene)
    assert len(tested) == 2
    assert any("went away during its smoke test" in line for line in scene.said)


def test_a_canary_that_is_unready_after_each_test_is_taken_back_in_the_end(scene: Scene) -> None:
    def overload() -> str:
        scene.world.unready("8")
        return "Its p99 latency is 9 s"

    scene.problem = overload
    with pytest.raises(Failure, match="Version 8 failed its rollout: Its p99 latency"):
        scene.roll()


def test_a_canary_that_crashes_during_its_smoke_test_failed_by_its_own_last_words(scene: Scene) -> None:
    def crash() -> None:
        scene.world.crashing = {"8": 0}
        scene.world.advance(1)
        raise Failure("Pod a is ready, and cannot be reached", where="10.0.0.1", remedy="go", exit_code=3)  # type: ignore[arg-type]

    scene.problem = crash
    with pytest.raises(Failure, match="was restarted: server ended with Error: RuntimeError: no kernel"):
        scene.roll()
    assert scene.champion == "7"


def test_a_node_that_is_drained_in_a_pause_says_nothing_against_the_version(scene: Scene) -> None:
    sleep = scene._sleep

    def drain(seconds: float) -> None:
        if scene.world.deployment["spec"].get("paused") and not scene.world.gone_of("8"):
            scene.world.drain("8")
        sleep(seconds)

    scene._sleep = drain  # type: ignore[method-assign]
    assert scene.roll() == "8"
    scene.world.advance(60)
    assert scene.world.count("8") == 4


def test_a_person_who_pauses_or_scales_to_zero_during_the_canary_is_heeded(scene: Scene) -> None:
    def pause() -> None:
        scene.world.patch_deployment({"metadata": {}, "spec": {"paused": True}})
        raise Failure("The registry is away", where="here", remedy="wait")

    scene.problem = pause
    waits(scene, "The registry is away", ExitCode.FAILED)
    waits(scene, "The Deployment is paused", ExitCode.FAILED)
    scene.world.patch_deployment({"metadata": {}, "spec": {"paused": False, "replicas": 0}})
    scene.world.advance(30)
    with pytest.raises(Failure, match="The Deployment has no replicas"):
        scene.roll()
    assert (scene.world.version, scene.champion, scene.notices) == ("7", "8", [])
    scene.world.scale(4)
    scene.world.advance(30)
    scene.problem = lambda: None
    assert scene.roll() == "8"


@pytest.mark.slow
def test_a_version_before_that_does_not_come_back_does_not_hold_up_the_next_one(scene: Scene) -> None:
    def fail() -> str | None:
        if scene.world.version != "8":
            return None
        scene.world.waiting = {"7": "ImagePullBackOff"}
        scene.world.drain("7")
        return "It answers nonsense"

    scene.problem = fail
    for _ in range(2):
        with pytest.raises(Failure, match="Not all pods of version 7 are back: server waits: ImagePullBackOff") as back:
            scene.roller(ready_seconds=60).run()
        assert back.value.exit_code == ExitCode.TIMED_OUT
    scene.promote("9")
    with pytest.raises(Failure, match="Version 8 failed its rollout"):
        scene.roller(ready_seconds=60).run()
    assert scene.roll() == "9"
    scene.world.advance(60)
    assert scene.world.count("9") == 4


def test_a_cluster_without_room_says_nothing_against_the_version(scene: Scene) -> None:
    scene.world.without_node = {"8"}
    for _ in range(2):
        with pytest.raises(
            Failure, match="no room for the next pod of version 8: 0/3 nodes are available: 3 Ins"
        ) as full:
            scene.roller(ready_seconds=60).run()
        assert full.value.exit_code == ExitCode.TIMED_OUT
    assert (scene.champion, scene.world.count("7")) == ("8", 4)
    assert any("Insufficient" in line for line in status_lines(status_of(scene.roller().cluster)))
    scene.world.without_node.clear()
    assert scene.roll() == "8"
    assert_served(scene, "8")


def test_a_rollout_that_was_killed_in_a_pause_goes_on_though_more_pods_are_wanted_since(scene: Scene) -> None:
    scene.life.dies = lambda: bool(scene.world.deployment["spec"].get("paused"))
    with pytest.raises(Killed):
        scene.roll()
    scene.life.dies = lambda: False
    scene.world.scale(9)
    scene.world.advance(SECONDS + 1)
    assert scene.roll() == "8"
    scene.world.advance(60)
    assert scene.world.count("8") == 9


def test_a_version_whose_files_cannot_be_downloaded(scene: Scene) -> None:
    scene.world.downloads["8"] = (1, "wikigpt: wikigpt has other weights than its tag says.")
    with pytest.raises(
        Failure, match="cannot get the files of the version: download ended with Error: wikigpt: wikigpt has"
    ):
        scene.roll()
    assert_served(scene, "7")


def test_a_server_that_crashes_when_half_of_the_pods_are_new(scene: Scene) -> None:
    scene.world.crashing = {"8": 25.0}
    with pytest.raises(Failure, match=r"The server in pod wikigpt-server-8-[0-9]+ was restarted"):
        scene.roll()
    scene.world.advance(60)
    assert {pod.version for pod in scene.world.pods()} == {"7"}
    assert scene.champion == "7"


def test_a_version_that_is_deleted_during_its_rollout(scene: Scene) -> None:
    def delete() -> None:
        scene.client.delete_model_version(MODEL, "8")

    scene.problem = delete
    with pytest.raises(Failure, match="The version was deleted from the registry during its rollout"):
        scene.roll()
    assert_served(scene, "7")
    assert (scene.champion, len(scene.notices)) == ("7", 1)


@pytest.mark.parametrize("now", ["7", "9"])
def test_a_person_who_moves_the_alias_on_is_followed_and_the_version_did_not_fail(scene: Scene, now: str) -> None:
    def move() -> None:
        if scene.champion == "8":
            scene.promote(now)

    scene.problem = move
    assert scene.roll() == now
    assert_served(scene, now)
    assert scene.notices == []
    assert "wikigpt.rollout_failed" not in scene.tags("8")


def test_a_person_who_sets_the_deployment_is_not_overruled_by_the_canary(scene: Scene) -> None:
    def undo() -> None:
        if scene.world.version == "8":
            patch = {"template": {"metadata": {"annotations": {"wikigpt/version": "7"}}}, "minReadySeconds": 0}
            scene.world.patch_deployment({"metadata": {}, "spec": patch})
            scene.promote("7")

    scene.problem = undo
    assert scene.roll() == "7"
    assert_served(scene, "7")


def test_a_deployment_that_a_person_paused_or_scaled_to_zero_is_left_alone(scene: Scene) -> None:
    scene.world.patch_deployment({"metadata": {}, "spec": {"paused": True}})
    with pytest.raises(Failure, match=r"The Deployment is paused .*rollout resume deployment/wikigpt-server"):
        scene.roll()
    scene.world.patch_deployment({"metadata": {}, "spec": {"paused": False, "replicas": 0}})
    with pytest.raises(Failure, match=r"The Deployment has no replicas .*--replicas=1"):
        scene.roll()
    assert scene.world.version == "7"


@pytest.mark.parametrize("replicas", [2, 7])
def test_an_autoscaler_changes_the_replicas_during_a_rollout(scene: Scene, replicas: int) -> None:
    scene.problem = lambda: scene.world.scale(replicas)
    assert scene.roll() == "8"
    scene.world.advance(60)
    assert (scene.world.count("8"), scene.world.deployment["spec"]["replicas"]) == (replicas, replicas)
    assert scene.untested == 1


def test_what_the_account_may_not_do_is_one_sentence(scene: Scene) -> None:
    for forbidden, subject in {
        "leases": "Lease wikigpt-server",
        "get deployments": "Deployment wikigpt-server",
        "patch deployments": "Deployment wikigpt-server",
        "pods": "list of pods",
    }.items():
        scene.world.forbidden = {forbidden}
        with pytest.raises(
            Failure, match=rf"Kubernetes does not permit this account to use the {subject} \(403\)"
        ) as no:
            scene.roll()
        assert no.value.exit_code == ExitCode.UNAUTHORISED
    scene.world.forbidden = set()
    scene.world.advance(SECONDS)
    assert scene.roll() == "8"


def test_a_deployment_that_does_not_exist(scene: Scene) -> None:
    missing = ServingCluster(scene.api, NAMESPACE, "another")
    with pytest.raises(Failure, match=r"There is no Deployment another .*: apply infra/serving first") as no:
        missing.deployment()
    assert no.value.exit_code == ExitCode.USAGE


def test_a_server_of_kubernetes_that_does_not_answer() -> None:
    settings = kubernetes.client.Configuration(host=f"http://127.0.0.1:{free_port()}")
    settings.retries = 0
    cluster = ServingCluster(kubernetes.client.ApiClient(settings), NAMESPACE, NAME)
    with pytest.raises(Failure, match="Kubernetes does not answer") as away:
        cluster.deployment()
    assert away.value.exit_code == ExitCode.UNREACHABLE


def test_of_two_rollouts_one_does_nothing(scene: Scene) -> None:
    tried = []

    def meanwhile() -> None:
        with pytest.raises(Busy) as busy:
            scene.roller().run()
        tried.append(str(busy.value))

    scene.problem = meanwhile
    assert scene.roll() == "8"
    assert len(tried) == 1
    assert_served(scene, "8")


def test_a_rollout_that_was_suspended_while_another_took_over_changes_nothing_more(scene: Scene) -> None:
    suspended = []

    def suspend() -> None:
        if suspended:
            return
        suspended.append(True)
        scene.world.advance(SECONDS + 1)
        assert scene.roller().run() == "8"

    scene.problem = suspend
    with pytest.raises(Failure, match="Another rollout has taken over, because this one was suspended"):
        scene.roll()
    assert_served(scene, "8")


def test_a_canary_whose_rollout_was_killed_stays_alone_for_days(scene: Scene) -> None:
    def die() -> None:
        raise Killed

    scene.problem = die
    with pytest.raises(Killed):
        scene.roll()
    for _ in range(3):
        scene.world.now += 24 * 3600
        scene.world.advance(5)
    assert (scene.world.count("8"), scene.world.count("7")) == (1, 4)
    scene.problem = lambda: None
    assert scene.roll() == "8"
    assert_served(scene, "8")


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True], ids=["goes on", "goes back"])
def test_a_rollout_that_is_killed_after_any_write_is_finished_by_the_next(
    fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = 0
    while True:
        writes += 1
        with monkeypatch.context() as patches, scene_of(World(4), patches) as scene:
            scene.problem = lambda: "It answers nonsense" if fails else None
            scene.life.writes = writes
            try:
                with pytest.raises(Failure) if fails else nullcontext():
                    scene.roll()
                break  # it was not killed
            except Killed:
                pass
            scene.life.writes = None
            scene.world.advance(SECONDS + 1)
            try:
                scene.roll()
            except Failure as failure:
                assert fails and "It answers nonsense" in str(failure)
            assert_served(scene, "7" if fails else "8", 4)
            assert scene.champion == ("7" if fails else "8")
            assert scene.untested <= 1
            assert ("wikigpt.rollout_failed" in scene.tags("8")) == fails
            assert not fails or len(scene.notices) in (1, 2)
    assert writes > 7


def test_the_status_at_rest_and_in_a_stage(scene: Scene) -> None:
    cluster = ServingCluster(scene.api, NAMESPACE, NAME)
    where = "Deployment wikigpt-server in namespace wikigpt-serving"
    assert status_lines(status_of(cluster)) == [
        f"{where}: version 7 is live",
        "  version 7: 4 of 4 pods ready",
    ]
    seen = []
    scene.problem = lambda: seen.extend(status_lines(status_of(cluster)))
    scene.roll()
    assert seen[0].startswith(f"{where}: version 8 replaces version 7, stage one canary, since 2027-")
    assert seen[1:] == ["  version 7: 4 of 4 pods ready", "  version 8: 1 of 1 pods ready"]
    assert status_lines(status_of(cluster))[0].startswith(f"{where}: version 8 is live since 2027-")


def test_the_plan_names_the_stages_that_the_rollout_reports(scene: Scene) -> None:
    cluster = ServingCluster(scene.api, NAMESPACE, NAME)
    assert planned_stages(cluster.deployment(), "8") == [
        "start one pod of version 8 beside version 7",
        "ask it for the completions that were recorded with version 8, and compare its p99 latency",
        "replace pods until 2 of 4 serve version 8, and examine them",
        "replace pods until 4 of 4 serve version 8, and examine them",
    ]
    assert planned_stages(cluster.deployment(), "7") == []
    during = []
    scene.problem = lambda: during.append([planned_stages(cluster.deployment(), version) for version in ("8", "7")])
    scene.roll()
    ((on, back),) = during
    assert on[0].startswith("ask it for the completions")
    assert back == ["take version 8 back to version 7"]
