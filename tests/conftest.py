"""Fixtures that more than one folder of tests uses."""

import atexit
import gc
import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from _pytest.reports import TestReport

from components.shared.storage.store import Store, open_store
from tests.s3_servers import emulator, environment, make_bucket


def _stack_without_sources(context: int = 0) -> list[inspect.FrameInfo]:
    """The frames above the caller. kfp asks for them at each setting of a task, to name the caller in a message, and
    `inspect.stack` would look for the source of each of pytest's sixty frames."""
    frames = []
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        frames.append(inspect.FrameInfo(frame, code.co_filename, frame.f_lineno, code.co_name, None, None))
        frame = frame.f_back
    return frames


inspect.stack = _stack_without_sources

# While modules are imported, the collector would find no garbage.
gc.disable()

if "PYTEST_XDIST_WORKER" in os.environ:
    # Runs after every other exit handler: taking millions of objects apart would keep the suite waiting for seconds.
    atexit.register(os._exit, 0)

pytest_plugins = ["tests.registry"]
BESIDE = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real WikiText-2 and the GPT-2 tokenizer, named by WIKIGPT_TEST_DATA."""
    folder = Path(os.environ.get("WIKIGPT_TEST_DATA") or BESIDE)
    if not folder.is_dir():
        pytest.skip("no real corpus here: set WIKIGPT_TEST_DATA to the folder that holds wikitext-2")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store in a folder of the test."""
    return open_store(str(tmp_path / "store"))


@pytest.fixture(scope="session")
def _emulator(tmp_path_factory) -> Iterator[dict[str, str]]:
    with emulator(tmp_path_factory.mktemp("s3")) as endpoint:
        env = environment(endpoint, "us-east-1", "test-key", "test-secret")
        make_bucket("wikigpt-test", env)
        yield env


@pytest.fixture
def s3_emulator(_emulator) -> tuple[str, dict[str, str]]:
    """A fresh store address on an emulated S3 server, and the variables that lead there."""
    return f"s3://wikigpt-test/{uuid4().hex[:12]}", _emulator


@pytest.fixture(scope="session")
def _server() -> dict[str, str]:
    names = ("ENDPOINT", "REGION", "KEY", "SECRET")
    values = [os.environ.get(f"WIKIGPT_TEST_S3_{name}", "") for name in names]
    if not all(values):
        pytest.skip("no real S3 server here: set WIKIGPT_TEST_S3_ENDPOINT, _REGION, _KEY and _SECRET")
    env = environment(*values)
    make_bucket("wikigpt-test", env)
    return env


@pytest.fixture
def s3_server(_server) -> tuple[str, dict[str, str]]:
    """A fresh store address on a real S3 server, and the variables that lead there."""
    return f"s3://wikigpt-test/{uuid4().hex[:12]}", _server


@pytest.fixture(autouse=True)
def _mlflow_as_it_was() -> Iterator[None]:
    """Resets MLflow's address of this process after a test, because it overrides the variable of later tests."""
    yield
    if utils := sys.modules.get("mlflow.tracking._tracking_service.utils"):
        utils.set_tracking_uri(None)


def pytest_collection_finish() -> None:
    """Garbage is collected rarely, because the collector examines all objects of MLflow, kfp and torch each time."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


def pytest_runtest_makereport(item, call):
    """In CI a skipped test fails, unless it needs a GPU, because everything else is available there."""
    report = TestReport.from_item_and_call(item, call)
    if report.skipped and os.environ.get("WIKIGPT_TEST_REQUIRE_ALL") and "gpu" not in item.keywords:
        report.outcome, report.longrepr = "failed", f"skipped, which CI does not allow: {report.longrepr}"
    return report
