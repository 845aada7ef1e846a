"""The scores of a version belong to its weights: nothing that happens to other weights changes them.

Version 1 is champion at 5 nats per word (word perplexity 148.41). Every path that
writes scores, cards, verdicts or evaluations is then taken with other weights for the same request, at 7 nats per word
(1096.63) or at 4.
"""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from components.shared.reuse.trained import publish_model, weights_digest
from components.shared.storage.manifest import read_manifest, write_manifest
from components.shared.storage.store import Store, open_store
from components.shared.tracking import registry
from pipelines.registry.promotion import promote, rollback
from tests.components.register.test_killed import run_until_write
from tests.registry import Folders, another_model, make_folders, make_step, register

NAME, KEY = "wikigpt-sample", "1" * 32
# The decisions of a person or of a later gate are not scores of a version.
_DECIDED = {"wikigpt.approval", "wikigpt.champion_before", "wikigpt.rolled_back", "wikigpt.promoted_by"}
_DECIDED |= {"wikigpt.promoted_at", "wikigpt.promoted_reason"}


@pytest.fixture
def client(tracking_uri: str) -> MlflowClient:
    return MlflowClient(tracking_uri)


@pytest.fixture
def objects() -> Store:
    return open_store(os.environ["WIKIGPT_STORE"])


@pytest.fixture
def first(client: MlflowClient, objects: Store, hugging_face_folder: Path, tmp_path: Path) -> Folders:
    """Version 1 as a run registers it, with its model and evaluation in the store."""
    folders = make_folders(tmp_path / "first", hugging_face_folder, reuse_key=KEY, nll_per_word=5.0)
    publish(objects, folders)
    assert register(make_step("run-1"), folders) == "1"
    assert word_perplexity(client, "1") == pytest.approx(148.41, abs=0.01)
    return folders


def publish(store: Store, folders: Folders) -> None:
    """Publishes model and evaluation in the store, as the earlier steps do."""
    model = read_manifest(folders.model, "model")
    digest = publish_model(store, folders.model, model, folders.reuse_key)
    store.publish(folders.evaluation, "evaluation", f"{digest}/{'e' * 16}")


def other(folders: Folders, root: Path, nll_per_word: float = 7.0) -> Folders:
    """The same training on a machine whose arithmetic differs."""
    return another_model(folders, root, KEY, nll_per_word, weights=3)


def word_perplexity(client: MlflowClient, version: str) -> float:
    return float(client.get_model_version(NAME, version).tags[registry.score_tag("validation", "word_perplexity")])


def said_of(client: MlflowClient, store: Store, version: str) -> dict[str, Any]:
    """Everything that is recorded about the model of a version: tags, card, evaluation and folders of the store."""
    found = client.get_model_version(NAME, version)
    weights = found.tags[registry.WEIGHTS_DIGEST]
    logged = client.get_logged_model(found.source.removeprefix("models:/"))
    with tempfile.TemporaryDirectory() as scratch:
        kept = Path(client.download_artifacts(found.tags[registry.EVALUATION_RUN], f"evaluation/{weights}", scratch))
        evaluation = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(kept.iterdir())}
    names = [("model", weights), *(("evaluation", name) for name in store.names("evaluation", f"{weights}/"))]
    return {
        "tags": {tag: value for tag, value in found.tags.items() if tag not in _DECIDED},
        "card": found.description,
        "source": (found.source, found.run_id, found.status),
        "logged": (logged.tags, {metric.key: metric.value for metric in logged.metrics}),
        "evaluation": evaluation,
        "read": registry.evaluation_of(client, found),
        "store": {name: store.find(*name) for name in names},
    }


def by_force(client: MlflowClient, store: Store, folders: Folders, root: Path) -> None:
    """A separate run with `--force`, or on another machine."""
    again = other(folders, root)
    publish(store, again)
    assert register(make_step("run-2"), again) == "2"


def by_a_retry_of_the_training(client: MlflowClient, store: Store, folders: Folders, root: Path) -> None:
    """The orchestrator repeats the steps of the run that created version 1, with the same MLflow run."""
    again = other(folders, root)
    publish(store, again)
    assert register(make_step("run-1"), again) == "2"


def by_another_evaluation(client: MlflowClient, store: Store, folders: Folders, root: Path) -> None:
    """The same weights with other scores from another run."""
    digest = weights_digest(read_manifest(folders.model, "model"))
    again = another_model(folders, root, KEY, 7.0, weights=0)
    evaluation = json.loads((again.evaluation / "evaluation.json").read_text())
    assert evaluation["weights_digest"] == digest
    assert [register(make_step(run), again) for run in ("run-1", "run-2")] == ["1", "1"]


def by_promotion_and_rollback(client: MlflowClient, store: Store, folders: Folders, root: Path) -> None:
    better = other(folders, root, nll_per_word=4.0)
    publish(store, better)
    assert register(make_step("run-2"), better) == "2"
    assert str(registry.version_with_alias(client, NAME, "champion").version) == "2"
    rollback(client, reason="it swears")
    promote(client, "2", reason="it does not")
    rollback(client, reason="it does")
    register(make_step("run-3"), better)
    assert str(registry.version_with_alias(client, NAME, "champion").version) == "1"


def by_a_run_that_looked_before_the_version_was_finished(
    client: MlflowClient, store: Store, folders: Folders, root: Path
) -> None:
    again = another_model(folders, root, KEY, 7.0, weights=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "version_of", lambda *_: None)
        assert register(make_step("run-2"), again) == "1"


PATHS = [
    by_a_run_that_looked_before_the_version_was_finished,
    by_force,
    by_a_retry_of_the_training,
    by_another_evaluation,
    by_promotion_and_rollback,
]


@pytest.mark.parametrize("path", PATHS)
def test_no_path_changes_the_record_of_a_version(
    client: MlflowClient, objects: Store, first: Folders, tmp_path: Path, path: Callable[..., None]
) -> None:
    before = said_of(client, objects, "1")
    path(client, objects, first, tmp_path / "again")
    assert said_of(client, objects, "1") == before


def test_other_weights_get_a_version_of_their_own_which_names_the_one_it_repeats(
    client: MlflowClient, objects: Store, first: Folders, tmp_path: Path
) -> None:
    by_force(client, objects, first, tmp_path / "again")
    one, two = (client.get_model_version(NAME, version) for version in ("1", "2"))
    assert one.tags[registry.REUSE_KEY] == two.tags[registry.REUSE_KEY] == KEY
    assert one.tags[registry.WEIGHTS_DIGEST] != two.tags[registry.WEIGHTS_DIGEST]
    assert (two.tags[registry.REPEATS], one.tags.get(registry.REPEATS)) == ("1", None)
    assert "It has the reuse key of version 1" in two.description
    assert word_perplexity(client, "2") == pytest.approx(1096.63, abs=0.01)
    assert two.tags[registry.VERDICT] == "keep"
    assert "1096.63 against 148.41 of the champion" in two.tags[registry.REASON]


def test_the_gate_compares_with_the_champions_own_numbers_after_a_repetition(
    client: MlflowClient, objects: Store, first: Folders, tmp_path: Path
) -> None:
    """What a forced run once did: the next gate said "Better: 54.60 against 1096.63 of the champion"."""
    by_force(client, objects, first, tmp_path / "again")
    register(make_step("run-3"), another_model(first, tmp_path / "next", "5" * 32, 6.0))
    tags = client.get_model_version(NAME, "3").tags
    assert tags[registry.VERDICT] == "keep"
    assert f"{math.exp(6.0):.2f} against 148.41 of the champion" in tags[registry.REASON]


def test_the_champion_of_an_evaluation_counts_only_with_equal_weights(
    client: MlflowClient, first: Folders, tmp_path: Path
) -> None:
    better = other(first, tmp_path / "again", nll_per_word=4.0)
    content = json.loads((better.evaluation / "evaluation.json").read_text())
    content["champion"] = {"version": "1", "weights_digest": "0" * 64, "protocols": content["protocols"]}
    metadata = read_manifest(better.evaluation, "evaluation").metadata
    (better.evaluation / "evaluation.json").write_text(json.dumps(content))
    write_manifest(better.evaluation, "evaluation", metadata)
    register(make_step("run-2"), better)
    assert "54.60 against 148.41" in client.get_model_version(NAME, "2").tags[registry.REASON]


def test_an_evaluation_without_a_weights_digest_is_incomparable(
    client: MlflowClient, first: Folders, tmp_path: Path
) -> None:
    """An earlier wikigpt stored it in one folder for all models of a run."""
    content = json.loads((first.evaluation / "evaluation.json").read_text())
    del content["weights_digest"]
    run = client.create_run(client.get_experiment_by_name("wikigpt").experiment_id).info.run_id
    client.log_dict(run, content, "evaluation/evaluation.json")
    client.set_model_version_tag(NAME, "1", registry.EVALUATION_RUN, run)
    assert registry.evaluation_of(client, client.get_model_version(NAME, "1")) == content
    register(make_step("run-2"), other(first, tmp_path / "again", nll_per_word=4.0))
    tags = client.get_model_version(NAME, "2").tags
    assert tags[registry.VERDICT] == "incomparable"
    assert "the weights that they were measured on were not recorded" in tags[registry.REASON]


@pytest.mark.slow
@pytest.mark.parametrize("number", [3, 9])
def test_a_kill_during_the_writes_of_other_weights_changes_nothing(
    client: MlflowClient, objects: Store, first: Folders, tmp_path: Path, number: int
) -> None:
    assert kill_and_retry(client, objects, first, tmp_path, number)


@pytest.mark.slow
def test_a_kill_after_every_write_of_other_weights_changes_nothing(
    client: MlflowClient, objects: Store, first: Folders, tmp_path: Path
) -> None:
    number = 1
    while kill_and_retry(client, objects, first, tmp_path, number):
        number += 1
    assert number > 20


def kill_and_retry(client: MlflowClient, store: Store, first: Folders, root: Path, number: int) -> bool:
    """Registers new weights in the run of version 1, dies after a write, and repeats the step."""
    again = another_model(first, root / f"again-{number}", KEY, 7.0, weights=10 + number)
    before = said_of(client, store, "1")
    killed = run_until_write(number, "run-1", again, root / "log")
    assert said_of(client, store, "1") == before, f"killed after write {number}"
    version = register(make_step("run-1"), again)
    assert said_of(client, store, "1") == before, f"repeated after write {number}"
    found = client.get_model_version(NAME, version)
    digest = weights_digest(read_manifest(again.model, "model"))
    assert found.tags[registry.WEIGHTS_DIGEST] == digest
    assert (
        len(
            registry.versions(
                client, NAME, where=f"tags.`wikigpt.weights_digest`='{found.tags[registry.WEIGHTS_DIGEST]}'"
            )
        )
        == 1
    )
    return killed
