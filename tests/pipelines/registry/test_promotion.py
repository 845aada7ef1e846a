"""Promotion and rollback by a person."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.register.model_lock import model_lock
from components.register.promotion import decide_alias
from components.shared.base.failure import Failure
from components.shared.runtime.liveness import heartbeat
from components.shared.storage.store import open_store
from components.shared.tracking import registry
from pipelines.cli import registry as commands
from pipelines.local.home import open_home
from pipelines.registry.models import models
from pipelines.registry.promotion import Moved, promote, rollback
from tests.http_servers import free_port
from tests.registry import judge_of, make_version
from tests.s3_servers import environment

NAME = "wikigpt"


def add(client: MlflowClient, nll_per_word: float) -> str:
    version = make_version(client, NAME, nll_per_word)
    decide_alias(client, NAME, version, judge_of(nll_per_word))
    return version


def champion(client: MlflowClient, model: str = NAME) -> str | None:
    found = registry.version_with_alias(client, model, "champion")
    return str(found.version) if found else None


def test_a_promotion_is_recorded_and_taken_back(client: MlflowClient) -> None:
    add(client, 5.0)
    add(client, 6.0)
    assert promote(client, "challenger", reason="reads better") == Moved(NAME, "2", "1")
    tags = client.get_model_version(NAME, "2").tags
    assert (champion(client), tags["wikigpt.promoted_reason"]) == ("2", "reads better")
    assert tags["wikigpt.promoted_by"]
    assert tags["wikigpt.promoted_at"].endswith("Z")
    assert registry.version_with_alias(client, NAME, "challenger") is None

    assert rollback(client, reason="it repeats itself") == Moved(NAME, "1", "2")
    assert champion(client) == "1"
    assert "it repeats itself" in client.get_model_version(NAME, "2").tags["wikigpt.rolled_back"]


def test_the_gate_does_not_undo_what_a_person_did(client: MlflowClient) -> None:
    for nll in (6.0, 5.0, 4.0):
        add(client, nll)
    rollback(client, reason="it swears")
    assert champion(client) == "2"
    decide_alias(client, NAME, "3", judge_of(4.0))
    assert champion(client) == "2"
    promote(client, "1", reason="for a demonstration")
    add(client, 5.5)
    assert champion(client) == "4"


def test_two_rollbacks_return_to_the_second_last_champion_and_a_third_fails(client: MlflowClient) -> None:
    for nll in (6.0, 5.0, 4.0):
        add(client, nll)
    rollback(client, reason="a")
    rollback(client, reason="b")
    assert champion(client) == "1"
    with pytest.raises(Failure, match="No champion before version 1 of wikigpt is on record"):
        rollback(client, reason="c")


def test_a_champion_set_by_a_click_is_rolled_back_to_the_one_before_it(client: MlflowClient) -> None:
    add(client, 5.0)
    add(client, 6.0)
    add(client, 4.0)
    client.set_registered_model_alias(NAME, "champion", "2")
    assert rollback(client, reason="a slip") == Moved(NAME, "3", "2")


def test_a_champion_before_that_was_deleted_is_none(client: MlflowClient) -> None:
    add(client, 6.0)
    add(client, 5.0)
    client.delete_model_version(NAME, "1")
    with pytest.raises(Failure, match="No champion before version 2"):
        rollback(client, reason="a")


def test_promoting_the_champion_changes_nothing(client: MlflowClient) -> None:
    add(client, 5.0)
    assert promote(client, "1", reason="again") == Moved(NAME, "1", "1")
    assert "wikigpt.promoted_reason" not in client.get_model_version(NAME, "1").tags


def test_a_version_is_promoted_to_another_environment_once(filled: MlflowClient) -> None:
    moved = [promote(filled, "1", reason="approved", model="wikigpt-sample", to="wikigpt-prod") for _ in range(2)]
    assert [each.version for each in moved] == ["1", "1"]
    copy = filled.get_model_version_by_alias("wikigpt-prod", "champion")
    assert copy.tags["wikigpt.copied_from"] == "models:/wikigpt-sample/1"
    assert copy.tags["wikigpt.promoted_reason"] == "approved"
    assert "wikigpt.champion_before" not in copy.tags
    assert {(row.name, row.version) for row in models(filled)} == {
        ("wikigpt-sample", "1"),
        ("wikigpt-sample", "2"),
        ("wikigpt-prod", "1"),
    }
    assert champion(filled, "wikigpt-sample") == "1"


@pytest.mark.parametrize("level", [float("nan"), float("inf")])
def test_a_version_whose_perplexity_is_no_number_is_not_promoted(client: MlflowClient, level: float) -> None:
    make_version(client, NAME, level)
    with pytest.raises(Failure, match=r"not sound: its perplexity on validation is (nan|inf)"):
        promote(client, "1", reason="why not")
    assert champion(client) is None


def test_a_reason_is_asked_for(client: MlflowClient) -> None:
    add(client, 5.0)
    for act in (lambda: promote(client, "1", reason=" "), lambda: rollback(client, reason="")):
        with pytest.raises(Failure, match="The reason is empty"):
            act()


def test_a_live_holder_of_the_lock_is_waited_for_and_a_dead_one_is_not(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(client, 5.0)
    make_version(client, NAME, 6.0)
    monkeypatch.setattr("pipelines.registry.promotion._PATIENCE", 0.0)
    store = open_store(str(tmp_path / "store"))
    with heartbeat(store, "run-1"), model_lock(store, NAME).held("run-1"):
        for act in (partial(promote, client, "2"), partial(rollback, client)):
            with pytest.raises(Failure, match="The run run-1 is changing the versions of wikigpt already"):
                act(reason="now", store=store)
    assert champion(client) == "1"
    model_lock(store, NAME).acquire("a run that died")
    promote(client, "2", reason="now", store=store)
    assert champion(client) == "2"
    rollback(client, reason="back", store=store)
    assert champion(client) == "1"


def test_a_command_whose_lock_was_taken_over_writes_no_more(client: MlflowClient, tmp_path: Path) -> None:
    """Its machine was suspended for minutes between two writes, and a run took over meanwhile."""
    add(client, 5.0)
    make_version(client, NAME, 6.0)
    store = open_store(str(tmp_path / "store"))
    set_tag, calls = client.set_model_version_tag, []

    def asleep(*args: str) -> None:
        set_tag(*args)
        calls.append(args)
        if len(calls) == 1:
            replace(model_lock(store, NAME), alive=lambda owner: False).acquire("run-2")

    client.set_model_version_tag = asleep  # type: ignore[method-assign]
    with pytest.raises(Failure, match="declared dead, and the run run-2 is changing the versions"):
        promote(client, "2", reason="now", store=store)
    assert (champion(client), len(calls)) == ("1", 1)


def test_a_rollback_that_was_cut_off_is_not_made_twice(client: MlflowClient) -> None:
    for nll in (6.0, 5.0, 4.0):
        add(client, nll)
    set_alias = client.set_registered_model_alias

    def die(*args: str) -> None:
        set_alias(*args)
        raise KeyboardInterrupt

    client.set_registered_model_alias = die  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        rollback(client, reason="a")
    client.set_registered_model_alias = set_alias  # type: ignore[method-assign]
    assert rollback(client, reason="a") == Moved(NAME, "2", "3")
    assert rollback(client, reason="b") == Moved(NAME, "1", "2")


def test_the_commands_lock_the_model_in_the_store_that_is_named(
    client: MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(client, 5.0)
    make_version(client, NAME, 6.0)
    store = str(tmp_path / "store")
    commands.promote("2", reason="a", home=tmp_path / "none", store=store)
    assert open_store(store).claims("locks/") == ["locks/registry/wikigpt/00000000"]
    commands.rollback(reason="b", home=tmp_path / "none", store=store)
    assert open_store(store).claims("locks/") == ["locks/registry/wikigpt/00000001"]
    assert "without the lock" not in capsys.readouterr().err


def test_the_commands_lock_the_model_in_the_store_of_the_home(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add(client, 5.0)
    make_version(client, NAME, 6.0)
    home = open_home(tmp_path / "home")
    shutil.copyfile(tmp_path / "mlflow.db", home.root / "mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    commands.promote("2", reason="a", home=home.root, store=None)
    assert open_store(str(home.store)).claims("locks/") == ["locks/registry/wikigpt/00000000"]
    assert "without the lock" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("store", "why"),
    [(None, "neither --store nor WIKIGPT_STORE"), ("s3://bucket/x", "Object storage cannot be reached")],
    ids=["no store", "a store that is away"],
)
def test_without_a_store_the_commands_do_their_work_and_say_that_nothing_was_locked(
    client: MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    store: str | None,
    why: str,
) -> None:
    add(client, 5.0)
    make_version(client, NAME, 6.0)
    away = environment(f"http://127.0.0.1:{free_port()}", "us-east-1", "key", "secret")
    for name, value in {**away, "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    commands.promote("2", reason="a", home=tmp_path / "none", store=store)
    said = capsys.readouterr()
    assert "Version 2 of wikigpt is now the champion" in said.out
    assert "continues without the lock" in said.err and why in said.err
    assert champion(client) == "2"


def test_without_a_champion_there_is_nothing_to_roll_back(client: MlflowClient) -> None:
    make_version(client, NAME, 5.0)
    with pytest.raises(Failure, match="wikigpt has no champion to roll back from"):
        rollback(client, reason="a")
