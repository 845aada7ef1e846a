"""The aliases after runs, people and concurrent runs have moved them."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.register.alias_move import announce_move, finish_move, pending_move
from components.register.promotion import AliasDecision, decide_alias
from components.shared.tracking import registry
from components.shared.tracking.announcement import ANNOUNCED
from tests.registry import judge_of, make_version

NAME = "wikigpt-sample"


@pytest.fixture
def client(tracking_uri: str) -> MlflowClient:
    return MlflowClient(tracking_uri)


def add(client: MlflowClient, nll_per_word: float, **rule: str) -> AliasDecision:
    version = make_version(client, NAME, nll_per_word)
    return decide_alias(client, NAME, version, judge_of(nll_per_word, **rule))


def champion(client: MlflowClient) -> str | None:
    found = registry.version_with_alias(client, NAME, "champion")
    return str(found.version) if found else None


def test_better_models_follow_each_other_and_worse_ones_challenge(client: MlflowClient) -> None:
    decisions = [add(client, nll) for nll in (6.0, 5.0, 5.5, 4.0)]
    assert [(p.verdict, p.alias, p.rival) for p in decisions] == [
        ("promote", "champion", None),
        ("promote", "champion", "1"),
        ("keep", "challenger", "2"),
        ("promote", "champion", "2"),
    ]
    assert champion(client) == "4"


@pytest.mark.parametrize(("policy", "alias"), [("manual", "challenger"), ("never", None)])
def test_other_policies_leave_the_champion_alone(client: MlflowClient, policy: str, alias: str | None) -> None:
    add(client, 6.0)
    decision = add(client, 4.0, policy=policy)
    assert (decision.verdict, decision.alias, champion(client)) == ("promote", alias, "1")


def test_a_champion_chosen_by_a_person_is_compared_with_and_older_verdicts_are_not(client: MlflowClient) -> None:
    for nll in (6.0, 5.0, 4.0):
        add(client, nll)
    client.set_registered_model_alias(NAME, "champion", "1")
    decision = add(client, 5.5)
    assert (decision.verdict, champion(client)) == ("promote", "4")


def test_a_version_that_was_rolled_back_is_not_promoted_again(client: MlflowClient) -> None:
    add(client, 6.0)
    add(client, 5.0)
    client.set_registered_model_alias(NAME, "champion", "1")
    client.set_model_version_tag(NAME, "2", "wikigpt.rolled_back", "2026-01-01")
    decision = decide_alias(client, NAME, "2", judge_of(5.0))
    assert (decision.verdict, decision.alias, champion(client)) == ("keep", "challenger", "1")
    assert "was rolled back" in decision.reason


def test_placing_the_champion_again_changes_nothing(client: MlflowClient) -> None:
    before = add(client, 6.0)
    again = decide_alias(client, NAME, "1", judge_of(6.0))
    assert (again.verdict, again.reason, again.alias) == (before.verdict, before.reason, before.alias)


def test_a_move_whose_run_died_is_finished_by_the_next_run(client: MlflowClient) -> None:
    add(client, 6.0)
    better = make_version(client, NAME, 4.0)
    client.set_registered_model_tag(NAME, ANNOUNCED, f"1:{better}")
    decision = add(client, 5.0)
    assert (decision.verdict, decision.alias, decision.rival, champion(client)) == (
        "keep",
        "challenger",
        better,
        better,
    )
    assert ANNOUNCED not in client.get_registered_model(NAME).tags


@pytest.mark.parametrize("undo", ["another champion", "deleted"])
def test_a_move_whose_run_died_is_dropped_if_a_person_has_decided_meanwhile(client: MlflowClient, undo: str) -> None:
    for nll in (6.0, 5.0):
        add(client, nll)
    better = make_version(client, NAME, 4.0)
    client.set_registered_model_tag(NAME, ANNOUNCED, f"2:{better}")
    if undo == "deleted":
        client.delete_model_version(NAME, better)
    else:
        client.set_registered_model_alias(NAME, "champion", "1")
    decision = add(client, 5.5)
    expected = ("keep", "2") if undo == "deleted" else ("promote", "4")
    assert (decision.verdict, champion(client)) == expected


def test_a_retry_after_another_version_became_champion_changes_nothing(client: MlflowClient) -> None:
    first = add(client, 6.0)
    add(client, 5.0)
    again = decide_alias(client, NAME, "1", judge_of(6.0))
    assert (again.verdict, again.reason, again.alias, champion(client)) == (first.verdict, first.reason, None, "2")
    assert registry.version_with_alias(client, NAME, "challenger") is None


def test_a_challenger_that_becomes_champion_is_challenger_no_more(client: MlflowClient) -> None:
    add(client, 5.0)
    add(client, 6.0)
    client.delete_registered_model_alias(NAME, "champion")
    decide_alias(client, NAME, "2", judge_of(6.0))
    assert champion(client) == "2"
    assert registry.version_with_alias(client, NAME, "challenger") is None


def test_a_champion_that_is_unknown_to_the_gate_stays(client: MlflowClient, tmp_path: Path) -> None:
    """The champion was registered by other software: it has none of our tags and no evaluation."""
    from components.shared.tracking.gate import Scores, gate

    client.create_registered_model(NAME)
    client.create_model_version(NAME, "file:///nowhere")
    client.set_registered_model_alias(NAME, "champion", "1")

    def judge(rival: object) -> object:
        scores = Scores.from_evaluation(registry.evaluation_of(client, rival) if rival else None, "")
        return gate(Scores("a", "wikitext-word", ((600.0, 100),) * 30, "w", "w"), scores)

    decision = decide_alias(client, NAME, make_version(client, NAME, 6.0), judge)
    assert (decision.verdict, decision.alias, champion(client)) == ("incomparable", "challenger", "1")


def test_a_move_to_a_version_that_was_deleted_since_is_discarded(client: MlflowClient) -> None:
    """Its alias was set, and the process was killed before the move was on record."""
    add(client, 6.0)
    make_version(client, NAME, 5.0)
    announce_move(client, NAME, "1", "2", "command", by="ada", reason="better")
    client.set_registered_model_alias(NAME, "champion", "2")
    client.set_registered_model_tag(NAME, registry.LAST_CHAMPION, "2")
    client.delete_model_version(NAME, "2")
    assert pending_move(client, NAME)[1] is False
    assert finish_move(client, NAME) is None
    assert ANNOUNCED not in client.get_registered_model(NAME).tags
    assert add(client, 5.5).verdict == "promote"
