"""A step that is killed after any of its writes, and run again, leaves exactly one version, READY.

The step runs in a child that ends itself without any clean-up after its n-th write: a commit to MLflow's database or an
object put into the store.
"""

import os
import traceback
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from components.shared.reuse.prior_artifacts import find_prior_artifacts
from components.shared.storage.store import open_store
from components.shared.tracking import registry
from tests.registry import Folders, copy_registry, make_folders, make_step, register

NAME = "wikigpt-sample"
KILLED = 9


def run_until_write(number: int, run: str, folders: Folders, log: Path) -> bool:
    """Runs the step in a child that dies after a write, and returns whether it reached that write."""
    if child := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, KILLED), log.read_text()
        return status == KILLED
    code = 1
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        _die_after_write(number)
        register(make_step(run), folders)
        code = 0
    except Exception:
        log.write_text(traceback.format_exc())
    finally:
        os._exit(code)


def _die_after_write(number: int) -> None:
    from sqlalchemy import event
    from sqlalchemy.orm import Session

    writes = 0

    def count(*_: object) -> None:
        nonlocal writes
        writes += 1
        if writes == number:
            os._exit(KILLED)

    objects = type(open_store(os.environ["WIKIGPT_STORE"]).objects)
    put = objects.put

    def put_and_count(self: Any, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        done = put(self, key, data, if_absent=if_absent)
        count()
        return done

    objects.put = put_and_count  # type: ignore[method-assign]
    event.listen(Session, "after_commit", count)


def one_version_after_a_kill(number: int, root: Path, database: Path, folders: Folders, *, other_run: bool) -> bool:
    root.mkdir()
    uri = copy_registry(database, root)
    os.environ["MLFLOW_TRACKING_URI"], os.environ["WIKIGPT_STORE"] = uri, str(root / "store")
    client, store = MlflowClient(uri), open_store(str(root / "store"))
    killed = run_until_write(number, "run-1", folders, root / "log")
    if find_prior_artifacts(store, client, NAME, folders.reuse_key).version:  # then the next run has nothing to do
        assert_complete(client, number)
    register(make_step("run-2" if other_run else "run-1"), folders)
    assert find_prior_artifacts(store, client, NAME, folders.reuse_key).version == "1"
    assert_complete(client, number)
    return killed


def assert_complete(client: MlflowClient, number: int) -> None:
    versions = registry.versions(client, NAME)
    assert [(str(v.version), v.status) for v in versions] == [("1", "READY")], f"killed after write {number}"
    source = client.get_logged_model(versions[0].source.removeprefix("models:/"))
    assert str(source.status) == "READY"
    assert versions[0].tags["wikigpt.verdict"] == "promote"
    assert versions[0].tags["wikigpt.approval"] == "settled"
    assert versions[0].description.startswith("# wikigpt-sample version 1")
    assert str(registry.version_with_alias(client, NAME, "champion").version) == "1"


@pytest.fixture
def folders(hugging_face_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    return make_folders(tmp_path / "folders", hugging_face_folder, reuse_key="1" * 32)


@pytest.mark.parametrize("number", [4, 12])
def test_killed_early_and_late(number: int, tmp_path: Path, database_with_experiment: Path, folders: Folders) -> None:
    assert one_version_after_a_kill(number, tmp_path / "killed", database_with_experiment, folders, other_run=False)


@pytest.mark.slow
@pytest.mark.parametrize(("other_run", "stride"), [(False, 1), (True, 3)], ids=["retried", "by-another-run"])
def test_killed_after_every_write(
    other_run: bool, stride: int, tmp_path: Path, database_with_experiment: Path, folders: Folders
) -> None:
    number = 1
    while one_version_after_a_kill(
        number, tmp_path / f"killed-{number}", database_with_experiment, folders, other_run=other_run
    ):
        number += stride
    assert number > 20
