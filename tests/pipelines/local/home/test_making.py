"""A home whose creation was disturbed works afterwards."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.shared.base.failure import Failure
from components.shared.tracking import mlflow_schema
from components.shared.tracking.mlflow_database import State, examine, prepare_database
from components.shared.tracking.run import Tracking, connect
from pipelines.local.home import open_home
from tests.pipelines.local.home.conftest import TINY, environment, may_mount, wikigpt

MOMENTS = 50


def schema_of(database: Path) -> set[tuple[str, ...]]:
    """The schema of a database; MLflow creates constraints and indexes in any order."""
    with sqlite3.connect(database) as connection:
        found = connection.execute("SELECT name, coalesce(sql, '') FROM sqlite_master").fetchall()
        found += connection.execute("SELECT 'revision', version_num FROM alembic_version").fetchall()
    return {(name, *sorted(line.strip(" ,\t") for line in sql.splitlines())) for name, sql in found}


def half_made(database: Path, revision: str | None = None) -> None:
    """The file after a kill during MLflow's migrations: it has the tables of the first of them."""
    from mlflow.store.tracking.dbmodels.initial_models import Base
    from sqlalchemy import create_engine

    engine = create_engine(f"sqlite:///{database}")
    Base.metadata.create_all(engine)
    engine.dispose()
    with sqlite3.connect(database) as connection:
        connection.execute("ALTER TABLE metrics ADD COLUMN step BIGINT DEFAULT '0' NOT NULL")  # of the first migration
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        if revision:
            connection.execute("INSERT INTO alembic_version VALUES (?)", (revision,))
    past = time.time() - 60
    os.utime(database, (past, past))


def works(home: Path) -> bool:
    """Whether a run is recorded there, and no file of an earlier attempt is left in the folder of the database."""
    Tracking.open("a-run", uri=open_home(home).tracking_uri)
    return not [path for path in home.iterdir() if path.name.endswith(".part")]


def test_the_schema_that_ships_is_the_one_that_the_migrations_lead_to(tmp_path: Path) -> None:
    prepare_database(tmp_path / "mlflow.db")
    MlflowClient(f"sqlite:///{tmp_path}/migrated.db").search_experiments()
    assert schema_of(tmp_path / "mlflow.db") == schema_of(tmp_path / "migrated.db")


def test_with_another_mlflow_the_migrations_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_schema, "_header", lambda: {"mlflow": "3.0.0", "revision": "0" * 12})
    mlflow_schema.latest_revision.cache_clear()
    try:
        assert works(tmp_path / "home")
        assert examine(tmp_path / "home" / "mlflow.db") is State.USABLE
    finally:
        mlflow_schema.latest_revision.cache_clear()


_KILLED = """
import os, pathlib, shutil, signal, sys, time
from components.shared.tracking.mlflow_database import State, examine, prepare_database
from pipelines.local.home import open_home

def make(home):
    prepare_database(open_home(home).database)

root, number, moments = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
make(root / "warm")
began = time.monotonic()
make(root / "undisturbed")
whole = time.monotonic() - began
killed = 0
for moment in range(moments):
    home = root / str(moment)
    if not (child := os.fork()):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            make(home)
        except BaseException:
            os._exit(130)
        os._exit(0)
    time.sleep(whole * moment / moments)
    os.kill(child, number)
    killed += os.waitpid(child, 0)[1] != 0
    make(home)
    assert examine(home / "mlflow.db") is State.USABLE, moment
    names = {path.name for path in home.iterdir() if not path.name.startswith(".layout.")}
    assert names == {"layout", "mlflow.db", ".mlflow.db.lock"}, moment
    shutil.rmtree(home)
print(killed)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_kill_at_any_moment_leaves_a_home_that_works(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "warm").mkdir()
    arguments = [sys.executable, "-c", _KILLED, str(tmp_path), str(int(number)), str(MOMENTS)]
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > MOMENTS / 2, "most of the kills came while the home was made"
    assert works(tmp_path / "undisturbed")


@pytest.mark.slow
def test_eight_commands_at_once_in_a_new_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "layout").write_text("1\n")
    with ThreadPoolExecutor(8) as pool:
        ended = list(pool.map(lambda _: wikigpt("models", "--json", "--home", home), range(8)))
    assert [(each.code, each.out) for each in ended] == [(0, "[]\n")] * 8, ended
    assert works(home)


_MADE = """
import pathlib, sys
from components.shared.base.failure import Failure
from components.shared.tracking.mlflow_database import prepare_database
from pipelines.local.home import open_home
try:
    prepare_database(open_home(pathlib.Path(sys.argv[1])).database)
except Failure as failure:
    sys.exit(str(failure))
"""


def test_eight_processes_make_one_home(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _MADE, str(tmp_path / "home")]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment()) for _ in range(8)]
    assert [(each.communicate()[1], each.returncode) for each in started] == [("", 0)] * 8
    assert works(tmp_path / "home")


@pytest.mark.parametrize("size", [0, 1 << 12, 1 << 16, 1 << 18, 1 << 19, 900_000])
def test_a_disk_that_fills_while_the_home_is_made(tmp_path: Path, size: int) -> None:
    """The kernel's limit on the size of files refuses the same writes as a full disk, for any user."""
    home = open_home(tmp_path / "home")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        with pytest.raises(Failure, match="free some space"):
            prepare_database(home.database)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not home.database.exists()
    assert works(home.root)


@pytest.mark.parametrize("size", ["64k", "256k", "640k"])
def test_a_small_disk_that_is_given_space_later(tmp_path: Path, size: str) -> None:
    unshare = may_mount()
    if unshare is None:
        pytest.skip("nobody may mount a file system here; the test above has a limit of the kernel in its place")
    make = f"{sys.executable} -c '{_MADE}' {tmp_path}/home"
    script = f"""
        mount -t tmpfs -o size={size} tmpfs {tmp_path} || exit 9
        {make} && exit 8
        test -e {tmp_path}/home/mlflow.db && exit 7
        mount -o remount,size=64m {tmp_path} && {make} && test -e {tmp_path}/home/mlflow.db
    """
    ended = subprocess.run([*unshare, "sh", "-c", script], capture_output=True, text=True, env=environment())
    assert ended.returncode == 0, ended
    assert "full" in ended.stderr and "free some space" in ended.stderr


@pytest.mark.parametrize("revision", [None, "451aebb31d03"])
def test_what_an_earlier_version_left_half_made_is_made_anew(tmp_path: Path, revision: str | None) -> None:
    home = open_home(tmp_path / "home")
    half_made(home.database, revision)
    assert examine(home.database) is State.UNFINISHED
    assert works(home.root)


@pytest.mark.slow
def test_an_empty_file_and_the_journal_of_another_are_no_hindrance(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    half_made(home.database)
    with sqlite3.connect(home.database) as writer:
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN IMMEDIATE")
        writer.executemany("INSERT INTO experiments (name) VALUES (?)", [("x" * 200 + str(i),) for i in range(2000)])
        shutil.copyfile(f"{home.database}-journal", tmp_path / "journal")
        writer.rollback()
    home.database.unlink()
    shutil.copyfile(tmp_path / "journal", f"{home.database}-journal")
    prepare_database(home.database)
    home.database.write_bytes(b"")
    assert works(home.root)


def test_a_half_made_database_with_records_is_left_alone(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    half_made(home.database, "451aebb31d03")
    with sqlite3.connect(home.database) as connection:
        connection.execute("INSERT INTO experiments (experiment_id, name) VALUES (1, 'mine')")
    with pytest.raises(Failure, match="has schema 451aebb31d03, this MLflow needs") as raised:
        connect(home.tracking_uri)
    assert "delete" not in raised.value.remedy
    with sqlite3.connect(home.database) as connection:
        assert connection.execute("SELECT name FROM experiments").fetchall() == [("mine",)]


def test_what_a_killed_command_left_of_the_marker_is_no_foreign_file(tmp_path: Path) -> None:
    (tmp_path / ".layout.abcd.part").write_text("")
    open_home(tmp_path)
    assert (tmp_path / "layout").read_text() == "1\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_first_run_that_is_killed_anywhere(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "run", "--profile", str(TINY), "--home"]
    for moment in (0, 1.5, 4):
        home = tmp_path / str(moment)
        run = subprocess.Popen([*command, str(home)], stderr=subprocess.DEVNULL, env=environment())
        time.sleep(moment)
        run.send_signal(number)
        run.wait(120)
        ended = wikigpt("models", "--home", home)
        assert ended.code == 0 or "Nothing has been run here yet" in ended.err, (moment, ended)
        assert works(home), moment
    assert wikigpt("run", "--profile", TINY, "--home", tmp_path / "4").code == 0
