"""A version whose rollout failed loses the alias, once, and comes back only by a person."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from mlflow import MlflowClient

from components.register.promotion import decide_alias
from components.shared.tracking import registry
from pipelines.registry.promotion import promote
from pipelines.serving.rejection import forget_rejection, is_rejected, reject
from tests.pipelines.serving.mortal import Killed, Mortal
from tests.registry import judge_of, make_version

NAME = "wikigpt"


def dying(client: MlflowClient, writes: int) -> Any:
    """A client that dies directly after its n-th write."""
    left = itertools.count(writes - 1, -1)

    def after_write() -> None:
        if next(left) == 0:
            raise Killed

    return Mortal(client, after_write)


@pytest.fixture
def served(client: MlflowClient) -> MlflowClient:
    """Version 1 was champion and is served; a person has clicked the alias onto version 2."""
    for nll in (5.0, 6.0):
        decide_alias(client, NAME, make_version(client, NAME, nll), judge_of(nll))
    client.set_registered_model_alias(NAME, "champion", "2")
    return client


def champion(client: MlflowClient) -> str | None:
    found = registry.version_with_alias(client, NAME, "champion")
    return str(found.version) if found else None


def rejected(client: MlflowClient, version: str = "2") -> bool:
    return is_rejected(client.get_model_version(NAME, version))


def test_the_alias_returns_with_a_reason_and_a_notice(served: MlflowClient) -> None:
    notices: list[dict[str, Any]] = []
    reject(served, NAME, "2", "1", "it answers nonsense", None, notices.append)
    tags = served.get_model_version(NAME, "2").tags
    assert (champion(served), tags["wikigpt.rollout_failed"]) == ("1", "it answers nonsense")
    assert tags["wikigpt.rolled_back"].endswith("by its rollout: it answers nonsense")
    (notice,) = notices
    text = "Version 2 of wikigpt failed its rollout: it answers nonsense. Version 1 goes on serving."
    assert (notice["text"], notice["version"], notice["served"]) == (text, "2", "1")
    decide_alias(served, NAME, "2", judge_of(1.0))
    assert champion(served) == "1", "the gate promotes it again"


def test_a_version_that_a_person_promotes_again_is_wanted_again(served: MlflowClient) -> None:
    reject(served, NAME, "2", "1", "it answers nonsense", None, lambda _: None)
    assert not rejected(served)
    served.set_registered_model_alias(NAME, "champion", "2")  # by a click
    assert not rejected(served)
    notices: list[dict[str, Any]] = []
    reject(served, NAME, "2", "1", "it is slow", None, notices.append)
    assert (champion(served), len(notices)) == ("1", 1)
    assert served.get_model_version(NAME, "2").tags["wikigpt.rollout_failed"] == "it is slow"
    promote(served, "2", reason="the server was at fault", model=NAME)
    assert not {"wikigpt.rollout_failed", "wikigpt.rollout_returned"} & served.get_model_version(NAME, "2").tags.keys()


def test_a_version_that_is_served_now_has_no_record_of_an_earlier_failure(served: MlflowClient) -> None:
    reject(served, NAME, "2", "1", "it is slow", None, lambda _: None)
    forget_rejection(served, NAME, "2")
    assert not [tag for tag in served.get_model_version(NAME, "2").tags if "roll" in tag]


@pytest.mark.parametrize("elsewhere", ["1", "3"])
def test_an_alias_that_a_person_has_moved_meanwhile_stays(served: MlflowClient, elsewhere: str) -> None:
    make_version(served, NAME, 7.0)
    served.set_registered_model_alias(NAME, "champion", elsewhere)
    reject(served, NAME, "2", "1", "it is slow", None, lambda _: None)
    assert champion(served) == elsewhere
    assert "wikigpt.rollout_failed" in served.get_model_version(NAME, "2").tags


def test_the_alias_of_a_deleted_version_returns_too(served: MlflowClient) -> None:
    served.delete_model_version(NAME, "2")
    notices: list[dict[str, Any]] = []
    reject(served, NAME, "2", "1", "it was deleted", None, notices.append)
    assert (champion(served), len(notices)) == ("1", 1)


def test_without_a_served_version_the_alias_stays_and_only_a_person_lifts_the_rejection(served: MlflowClient) -> None:
    notices: list[dict[str, Any]] = []
    reject(served, NAME, "2", None, "it is slow", None, notices.append)
    assert champion(served) == "2"
    assert rejected(served)
    served.set_registered_model_alias(NAME, "champion", "2")
    assert rejected(served), "a click that moves nothing cannot be told from none"
    assert notices[0]["text"].endswith("No version is served; `wikigpt promote` tries again.")
    promote(served, "2", reason="the server was at fault", model=NAME)
    assert not rejected(served)


@pytest.mark.slow
def test_a_rejection_that_is_killed_after_any_write_is_finished_by_the_next_with_one_notice(
    served: MlflowClient,
) -> None:
    deaths = 0
    for writes in range(1, 30):
        served.set_registered_model_alias(NAME, "champion", "2")
        notices: list[dict[str, Any]] = []
        try:
            reject(dying(served, writes), NAME, "2", "1", f"reason {writes}", None, notices.append)
        except Killed:
            deaths += 1
            reject(served, NAME, "2", "1", f"reason {writes}", None, notices.append)
        tags = served.get_model_version(NAME, "2").tags
        assert (champion(served), tags["wikigpt.rollout_failed"]) == ("1", f"reason {writes}")
        assert "wikigpt.rollout_returned" in tags
        assert len(notices) in (1, 2)
        if deaths < writes:
            break
    assert deaths > 5


def test_an_interrupted_return_of_the_alias_is_wanted_by_nobody(served: MlflowClient) -> None:
    with pytest.raises(Killed):
        reject(dying(served, 2), NAME, "2", "1", "it is slow", None, lambda _: None)
    assert champion(served) == "2"
    assert rejected(served)
