"""Who may move the alias champion: what counts, what is served meanwhile, and what the history says."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.register.alias_move import announce_move, notice_click, return_champion
from components.register.promotion import decide_alias
from components.shared.base.failure import ExitCode, Failure
from components.shared.tracking import champion_moves, registry
from components.shared.tracking.announcement import ANNOUNCED
from components.shared.tracking.approval import Approved
from components.shared.tracking.champion_moves import champion_state
from components.shared.tracking.sqlite_registry import sqlite_registry
from pipelines.cli import history as history_command
from pipelines.cli import registry as commands
from pipelines.registry import approval
from pipelines.registry.approval import approved_champion, resolve_served
from pipelines.registry.clicks import record_click
from pipelines.registry.history import history
from pipelines.registry.promotion import promote, rollback
from tests.registry import judge_of, make_version

NAME = "wikigpt"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets the account that asks MLflow; ada and the pipeline are promoters."""
    monkeypatch.setenv("WIKIGPT_PROMOTERS", "ada, pipeline")

    def ask_as(name: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)

    ask_as("pipeline")
    return ask_as


def add(client: MlflowClient, nll_per_word: float, promoters: tuple[str, ...] = ("ada", "pipeline")) -> str:
    version = make_version(client, NAME, nll_per_word)
    decide_alias(client, NAME, version, judge_of(nll_per_word), promoters)
    return version


def click(client: MlflowClient, version: str) -> None:
    client.set_registered_model_alias(NAME, "champion", version)


def alias(client: MlflowClient) -> str:
    return champion_state(client, NAME).holder


def outline(client: MlflowClient) -> list[tuple[str, str, str, str]]:
    return [(row.before, row.version, row.how, row.by) for row in history(client, NAME)[::-1]]


def test_a_click_is_not_served_until_a_promoter_confirms_it(client: MlflowClient, account) -> None:
    add(client, 5.0)
    add(client, 6.0)
    click(client, "2")
    approved = approved_champion(client, NAME)
    assert (approved.version, approved.refused and approved.refused.version) == ("1", "2")
    assert "which does not say who; a promoter confirms it by `wikigpt promote 2`." in approved.refused.reason
    notes: list[str] = []
    assert resolve_served(client, "champion", note=notes.append).version == 1
    assert resolve_served(client, "models:/wikigpt@champion", note=notes.append).version == 1
    assert resolve_served(client, "2", note=notes.append).version == 2
    assert len(notes) == 2 and "Version 1 is still the approved champion." in notes[0]

    account("ada")
    promote(client, "2", reason="reads better")
    assert approved_champion(client, NAME) == Approved("2")
    assert client.get_model_version(NAME, "2").tags[registry.CHAMPION_BEFORE] == "1"
    assert outline(client) == [
        ("", "1", "gate", "pipeline"),
        ("1", "2", "click", ""),
        ("2", "2", "command", "ada"),
    ]
    rollback(client, reason="it does not")
    assert approved_champion(client, NAME) == Approved("1")


def test_only_promoters_promote_and_roll_back(client: MlflowClient, account) -> None:
    add(client, 5.0)
    add(client, 6.0)
    account("bob")
    for act in (lambda: promote(client, "2", reason="mine"), lambda: rollback(client, reason="mine")):
        with pytest.raises(Failure, match="bob is no promoter, and only promoters move the alias champion") as caught:
            act()
        assert caught.value.exit_code is ExitCode.UNAUTHORISED
    assert approved_champion(client, NAME) == Approved("1")


def test_a_promotion_by_somebody_who_left_the_list_unset_does_not_count(
    client: MlflowClient, account, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(client, 5.0)
    add(client, 6.0)
    account("bob")
    monkeypatch.delenv("WIKIGPT_PROMOTERS")
    promote(client, "2", reason="mine")
    assert approved_champion(client, NAME) == Approved("2"), "without a list, the alias decides"
    monkeypatch.setenv("WIKIGPT_PROMOTERS", "ada")
    approved = approved_champion(client, NAME)
    assert approved.version == "1" and "bob made version 2 champion and is no promoter" in approved.refused.reason


def test_the_gate_compares_with_the_approved_champion_and_supersedes_a_click(client: MlflowClient, account) -> None:
    add(client, 5.0)
    add(client, 6.0)
    click(client, "2")
    add(client, 5.5)
    assert alias(client) == "2", "worse than the approved champion"
    assert client.get_model_version(NAME, "3").tags[registry.CHAMPION_BEFORE] == "1"
    add(client, 4.0)
    assert approved_champion(client, NAME) == Approved("4")
    assert outline(client)[1:] == [("1", "2", "click", ""), ("2", "4", "gate", "pipeline")]
    account("ada")
    assert rollback(client, reason="a").version == "1", "not the version that was only clicked"


def test_a_click_is_recorded_once_and_shown_before_it_is_recorded(client: MlflowClient, account) -> None:
    add(client, 5.0)
    add(client, 6.0)
    click(client, "2")
    assert [row.number for row in history(client, NAME)] == [None, 1]
    assert [record_click(client, NAME, None, "rollout") is not None for _ in range(3)] == [True, False, False]
    first = history(client, NAME)
    assert [row.number for row in first] == [2, 1] and first[0].at.endswith("Z")
    assert history(client, NAME) == first


def test_a_click_on_a_version_that_the_gate_called_invalid_never_counts(
    client: MlflowClient, account, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(client, 5.0)
    make_version(client, NAME, 6.0)
    monkeypatch.setattr("components.shared.tracking.approval.movers_of", lambda *_: ("ada", "pipeline"))
    click(client, "2")
    assert approved_champion(client, NAME) == Approved("2"), "nobody else had the right to click"
    client.set_model_version_tag(NAME, "2", registry.VERDICT, "invalid")
    approved = approved_champion(client, NAME)
    assert approved.version == "1" and "the gate called it invalid" in approved.refused.reason


def test_a_click_counts_for_as_long_as_nobody_else_had_the_right(
    client: MlflowClient, account, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(client, 5.0)
    make_version(client, NAME, 6.0)
    click(client, "2")
    monkeypatch.setattr("components.register.alias_move.movers_of", lambda *_: ("ada", "bob", "pipeline"))
    record_click(client, NAME, None, "rollout")
    monkeypatch.setattr("components.shared.tracking.approval.movers_of", lambda *_: ("ada",))
    assert "where also bob may do that" in approved_champion(client, NAME).refused.reason
    monkeypatch.setenv("WIKIGPT_PROMOTERS", "ada,bob,pipeline")
    assert approved_champion(client, NAME) == Approved("2")


def test_an_alias_that_was_removed_and_a_champion_that_was_deleted_are_noticed(client: MlflowClient, account) -> None:
    add(client, 6.0)
    add(client, 5.0)
    client.delete_registered_model_alias(NAME, "champion")
    approved = approved_champion(client, NAME)
    assert approved.version == "2" and approved.refused.reason.startswith("Somebody removed the alias champion")
    client.delete_model_version(NAME, "2")
    assert approved_champion(client, NAME).version == "1"


def test_without_promoters_the_alias_decides_and_moves_are_recorded(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WIKIGPT_PROMOTERS", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    add(client, 5.0, ())
    add(client, 6.0, ())
    click(client, "2")
    assert approved_champion(client, NAME) == Approved("2")
    rollback(client, reason="a slip")
    assert outline(client) == [("", "1", "gate", "ada"), ("1", "2", "click", ""), ("2", "1", "command", "ada")]
    assert history(client, NAME)[0].reason == "a slip"


def test_the_reader_of_the_database_judges_in_the_same_way(client: MlflowClient, account) -> None:
    local = sqlite_registry(client.tracking_uri)
    add(client, 5.0)
    add(client, 6.0)
    for move in (lambda: None, lambda: click(client, "2"), lambda: record_click(client, NAME, None, "rollout")):
        move()
        assert approved_champion(local, NAME) == approved_champion(client, NAME)
        assert [row.version for row in history(local, NAME)] == [row.version for row in history(client, NAME)]


def test_a_rollout_returns_the_alias_unless_a_person_moved_it(client: MlflowClient, account) -> None:
    add(client, 5.0)
    add(client, 4.0)
    add(client, 6.0)
    assert return_champion(client, NAME, "2", "1", by="pipeline", reason="it never became ready")
    assert approved_champion(client, NAME) == Approved("1")
    click(client, "3")
    assert not return_champion(client, NAME, "2", "1")
    assert alias(client) == "3"
    record_click(client, NAME, None, "rollout")
    assert [each[:3] for each in outline(client)] == [
        ("", "1", "gate"),
        ("1", "2", "gate"),
        ("2", "1", "rollout"),
        ("1", "3", "click"),
    ]


def test_the_newest_moves_and_the_last_decision_are_kept(
    client: MlflowClient, account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(champion_moves, "KEPT", 3)
    add(client, 5.0)
    make_version(client, NAME, 6.0)
    for number in range(6):
        click(client, "2" if number % 2 == 0 else "1")
        notice_click(client, NAME)
    assert [move.number for move in champion_state(client, NAME).moves] == [1, 5, 6, 7]
    assert approved_champion(client, NAME).version == "1"


def test_a_tag_that_somebody_else_wrote_is_no_move(client: MlflowClient, account) -> None:
    add(client, 5.0)
    for name, text in {"000009": "no JSON", "000010": "[]", "000011": '{"how": "magic"}', "x": "{}"}.items():
        client.set_registered_model_tag(NAME, f"wikigpt.move.{name}", text)
    assert [move.number for move in champion_state(client, NAME).moves] == [1]
    client.set_registered_model_tag(NAME, ANNOUNCED, "1:1:2:{")
    assert approved_champion(client, NAME) == Approved("1")


def test_a_long_reason_fits_the_column_of_the_tag(client: MlflowClient, account) -> None:
    add(client, 5.0)
    make_version(client, NAME, 6.0)
    account("ada")
    promote(client, "2", reason='"\x01é' * 4000)
    texts = [text for name, text in client.get_registered_model(NAME).tags.items() if name.startswith("wikigpt.move.")]
    assert len(texts) == 2 and all(len(text) < 5000 for text in texts)


def test_the_commands_report_a_champion_that_is_not_served(
    client: MlflowClient, account, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(client, 5.0)
    make_version(client, NAME, 6.0)
    history_command.history(home=tmp_path)
    assert "the gate by pipeline" in capsys.readouterr().out
    click(client, "2")
    history_command.history(home=tmp_path)
    said = capsys.readouterr()
    assert "not recorded yet" in said.out and "a promoter confirms it by `wikigpt promote 2`" in said.err
    with pytest.raises(Failure, match="The alias champion names no approved champion"):
        commands.promote("champion", reason="a", home=tmp_path, store=str(tmp_path / "store"))


def test_no_champion_is_served_if_none_was_ever_approved(client: MlflowClient, account) -> None:
    make_version(client, NAME, 5.0)
    click(client, "1")
    assert approved_champion(client, NAME).version is None
    with pytest.raises(Failure, match="No champion of wikigpt may be served"):
        resolve_served(client, "champion", note=lambda _: None)


def test_the_names_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIKIGPT_PROMOTERS", " ada ,, bob,")
    assert approval.promoters_of_environment() == ("ada", "bob")


def test_a_click_that_returns_the_alias_to_the_approved_champion_changes_nothing(client: MlflowClient, account) -> None:
    add(client, 5.0)
    add(client, 6.0)
    click(client, "2")
    record_click(client, NAME, None, "rollout")
    click(client, "1")
    assert approved_champion(client, NAME) == Approved("1")


def test_a_move_that_was_interrupted_is_no_click(client: MlflowClient, account) -> None:
    add(client, 5.0)
    add(client, 6.0)
    announce_move(client, NAME, "1", "2", "command", by="ada", reason="better")
    click(client, "2")
    newest = history(client, NAME)[0]
    assert (newest.version, newest.how, newest.by) == ("2", "command", "ada")
