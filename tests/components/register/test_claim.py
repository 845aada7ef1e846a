"""Who may register a fingerprint."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.register.claim import Claim, claim_version, settle_claim
from components.shared.failure import ExitCode, Failure
from components.shared.liveness import end_heartbeat, heartbeat
from components.shared.storage.store import Store, open_store

MODEL, FINGERPRINT = "wikigpt", "f" * 32


@pytest.fixture
def client(tracking_uri: str) -> MlflowClient:
    return MlflowClient(tracking_uri)


@pytest.fixture
def objects(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def claim(store: Store, client: MlflowClient, run: str) -> Claim:
    return claim_version(store, client, MODEL, FINGERPRINT, run, patience=0)


def register(client: MlflowClient) -> str:
    if not client.search_registered_models(f"name='{MODEL}'"):
        client.create_registered_model(MODEL)
    return str(client.create_model_version(MODEL, "file:///nowhere", tags={"wikigpt.fingerprint": FINGERPRINT}).version)


def test_the_first_gets_it_and_its_retries_keep_it(client: MlflowClient, objects: Store) -> None:
    assert {claim(objects, client, "a") for _ in range(2)} == {Claim(f"versions/{MODEL}/{FINGERPRINT}", None)}


def test_a_version_that_stands_is_everybodys(client: MlflowClient, objects: Store) -> None:
    version = register(client)
    assert claim(objects, client, "a").version == claim(objects, client, "b").version == version


def test_a_living_run_is_waited_for_and_then_named(client: MlflowClient, objects: Store) -> None:
    with heartbeat(objects, "a"):
        claim(objects, client, "a")
        with pytest.raises(Failure, match="Run a lives and has claimed this fingerprint") as raised:
            claim(objects, client, "b")
    assert raised.value.exit_code == ExitCode.TIMED_OUT


def test_of_eight_heirs_of_a_dead_run_exactly_one_registers(client: MlflowClient, objects: Store) -> None:
    claim(objects, client, "dead")
    end_heartbeat(objects, "dead")
    heirs = [f"heir-{number}" for number in range(8)]
    with ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        for heir in heirs:
            stack.enter_context(heartbeat(objects, heir))
        futures = [pool.submit(claim, objects, client, heir) for heir in heirs]
        failures = [future.exception() for future in futures]
    assert [type(failure) for failure in failures].count(type(None)) == 1
    assert [type(failure) for failure in failures].count(Failure) == 7


def test_a_deleted_version_frees_its_fingerprint_also_for_the_run_that_made_it(
    client: MlflowClient, objects: Store
) -> None:
    first = claim(objects, client, "a")
    settle_claim(objects, first, "a", register(client))
    client.delete_model_version(MODEL, "1")
    second = claim(objects, client, "a")
    assert (second.version, second.name) == (None, f"{first.name}.1")
    settle_claim(objects, second, "a", register(client))
    client.delete_model_version(MODEL, "2")
    assert claim(objects, client, "b") == Claim(f"{first.name}.2", None)
