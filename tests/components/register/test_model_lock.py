"""The lock on a registered model, and the state after a run that lost it while it registered a version."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.register.model_lock import fenced, model_lock, owner_of_command, register_once
from components.shared.base.failure import Failure
from components.shared.runtime.liveness import end_heartbeat, heartbeat
from components.shared.storage.store import open_store
from components.shared.tracking import registry
from tests.interleavings.fake_registry import FakeRegistry

MODEL, WEIGHTS = "wikigpt", "d" * 64


@pytest.fixture
def client() -> FakeRegistry:
    client = FakeRegistry()
    client.create_registered_model(MODEL)
    return client


def make(client: Any, **tags: str) -> str:
    return client.create_model_version(MODEL, "", tags={registry.WEIGHTS_DIGEST: WEIGHTS, **tags}).version


def once(client: Any, check: Callable[[], None] = lambda: None, before: Callable[[], Any] = lambda: None) -> str:
    def new() -> str:
        before()
        return make(client)

    return register_once(client, check, MODEL, WEIGHTS, new)


def numbers(client: Any) -> list[str]:
    return [version.version for version in registry.versions(client, MODEL)][::-1]


def test_a_version_is_created_once(client: FakeRegistry) -> None:
    assert [once(client), once(client)] == ["1", "1"]
    assert numbers(client) == ["1"]


def test_a_run_that_lost_the_lock_while_it_created_its_version_removes_it(client: FakeRegistry) -> None:
    assert once(client, before=lambda: make(client)) == "1"
    assert numbers(client) == ["1"]


def test_a_second_version_of_a_run_that_died_is_removed_unless_an_alias_names_it(client: FakeRegistry) -> None:
    make(client)
    make(client)
    make(client, **{registry.REGISTERED: "run-1"})
    make(client)
    client.set_registered_model_alias(MODEL, "prod", "2")
    assert once(client) == "3", "the one that is complete counts"
    assert numbers(client) == ["2", "3"]


def test_without_the_lock_no_version_is_created_or_removed(client: FakeRegistry) -> None:
    def lost() -> None:
        raise Failure("lost", where="", remedy="")

    with pytest.raises(Failure, match="lost"):
        once(client, lost)
    make(client)
    make(client)
    with pytest.raises(Failure, match="lost"):
        once(client, lost)
    assert numbers(client) == ["1", "2"]


def test_a_fenced_client_looks_before_each_write_and_before_no_read(client: FakeRegistry) -> None:
    looked: list[int] = []
    watched: Any = fenced(client, lambda: looked.append(1))  # type: ignore[arg-type]
    version = make(watched)
    assert len(looked) == 1
    watched.get_model_version(MODEL, version)
    watched.search_model_versions(f"name='{MODEL}'")
    assert watched.tracking_uri == "memory"
    assert len(looked) == 1
    for write in (
        lambda: watched.set_model_version_tag(MODEL, version, "a", "b"),
        lambda: watched.delete_model_version_tag(MODEL, version, "a"),
        lambda: watched.update_model_version(MODEL, version, "text"),
        lambda: watched.set_registered_model_alias(MODEL, "champion", version),
        lambda: watched.delete_registered_model_alias(MODEL, "champion"),
        lambda: watched.set_registered_model_tag(MODEL, "a", "b"),
        lambda: watched.delete_registered_model_tag(MODEL, "a"),
        lambda: watched.delete_model_version(MODEL, version),
    ):
        write()
    assert len(looked) == 9


def test_a_heartbeat_shows_whether_a_run_is_alive_and_a_command_has_none(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    lock = model_lock(store, MODEL)
    with heartbeat(store, "run-1"):
        lock.acquire("run-1")
        with pytest.raises(Failure, match="The run run-1 is changing the versions of wikigpt already"):
            lock.acquire("run-2")
    end_heartbeat(store, "run-1")
    assert lock.acquire("run-2").before == "run-1"
    command = owner_of_command("promote", "alice")
    lock.acquire(command)
    with pytest.raises(Failure, match=r"The run wikigpt promote \(alice, \w+\) is changing"):
        lock.acquire("run-3")


def test_models_are_locked_each_for_itself(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    with heartbeat(store, "run-1"), model_lock(store, MODEL).held("run-1"), model_lock(store, "other").held("b"):
        pass
