"""The alias is followed on a real registry, with an engine that starts at once."""

from __future__ import annotations

import errno
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.shared.base.failure import ExitCode, Failure
from components.shared.reuse.trained import KIND
from components.shared.signing import evidence
from components.shared.signing.keys import open_signing_key
from components.shared.storage.manifest import write_manifest
from components.shared.tracking import registry
from components.shared.tracking.sqlite_registry import sqlite_registry
from pipelines.registry.approval import resolve_served
from pipelines.registry.references import resolve
from pipelines.registry.verification import sign
from pipelines.serving.engine import EngineCommand
from pipelines.serving.folder import served_folder
from pipelines.serving.follow import Followed, follow, serve_version
from pipelines.serving.proxy import ProxyFailure
from pipelines.serving.serve_settings import ServeSettings
from pipelines.serving.server import Server
from pipelines.serving.smoke import Limits
from tests.http_servers import free_port
from tests.pipelines.serving.conftest import NAME, record
from tests.pipelines.serving.load import under_load
from tests.signing import make_keys


class Over(BaseException):
    """Ends the loop of a test."""


@contextmanager
def following(client: MlflowClient, stand_in: EngineCommand, folder: Path) -> Iterator[tuple[int, list[str], list]]:
    """Follows the alias champion in a thread; yields the port, the sentences, and the versions that were taken back."""
    said: list[str] = []
    back: list[tuple[str, str, str]] = []
    over = threading.Event()
    settings = ServeSettings(port=free_port(), ready=5, drain=5, limits=Limits(requests=2, noise=1))

    def report(line: str) -> None:
        said.append(line)

    def wanted(reader):
        if over.is_set():
            raise Over
        return resolve_served(reader, "champion", NAME, note=said.append)

    def take_back(*arguments: str) -> None:
        back.append(arguments)
        client.set_registered_model_alias(NAME, "champion", arguments[1])

    reader = sqlite_registry(client.tracking_uri)
    assert reader is not None
    server = Server(NAME, stand_in, folder / "logs", settings, report)
    alias = Followed(lambda: nullcontext(reader), wanted, print, take_back, folder / "versions", report)

    def loop() -> None:
        with pytest.raises(Over):
            follow(server, alias, 0.05)

    thread = threading.Thread(target=loop)
    try:
        serve_version(server, reader, resolve(reader, "champion", NAME), folder / "versions", report)
        thread.start()
        yield settings.port, said, back
    finally:
        over.set()
        if thread.ident:
            thread.join()
        server.close()


def wait_for(lines: list, word: str, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not any(word in str(line) for line in lines):
        assert time.monotonic() < until, lines
        time.sleep(0.02)


@pytest.mark.usefixtures("haproxy")
def test_the_new_champion_is_served_and_a_failing_one_is_taken_back(
    local: MlflowClient, stand_in: EngineCommand, tmp_path: Path
) -> None:
    with following(local, stand_in, tmp_path) as (port, said, back), under_load(port) as load:
        load.wait_for(f"{NAME}/1")
        local.set_registered_model_alias(NAME, "champion", "2")
        load.wait_for(f"{NAME}/2")
        record(tmp_path / "logged-1", " before")
        local.set_registered_model_alias(NAME, "champion", "1")
        wait_for(said, "Version 1 is not served, and version 2 goes on serving: The smoke test failed: Only 0 of 1")
        wait_for(back, "smoke test")
        time.sleep(0.3)
    assert load.failed == []
    assert load.versions() == [f"{NAME}/1", f"{NAME}/2"]
    assert [(number, to) for number, to, _ in back] == [("1", "2")]


@pytest.mark.usefixtures("haproxy")
def test_damaged_weights_are_not_even_started(local: MlflowClient, stand_in: EngineCommand, tmp_path: Path) -> None:
    weights = tmp_path / "logged-2" / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with following(local, stand_in, tmp_path) as (_, _, back):
        local.set_registered_model_alias(NAME, "champion", "2")
        wait_for(back, "The weights of the version in MLflow are damaged")
    assert not (tmp_path / "logs" / "version-2.log").exists()
    assert [path.name for path in (tmp_path / "versions").iterdir()] != []


@pytest.mark.usefixtures("haproxy")
def test_an_alias_that_is_deleted_leaves_the_version_serving(
    local: MlflowClient, stand_in: EngineCommand, tmp_path: Path
) -> None:
    with following(local, stand_in, tmp_path) as (port, said, back), under_load(port, threads=1) as load:
        local.delete_registered_model_alias(NAME, "champion")
        wait_for(said, "Version 1 goes on serving: There is no alias 'champion'")
        time.sleep(0.3)
    assert load.failed == [] and back == []
    assert sum("There is no alias" in line for line in said) == 1


@pytest.mark.usefixtures("haproxy")
def test_a_version_that_is_deleted_while_it_is_rolled_out_is_not_served(
    local: MlflowClient, stand_in: EngineCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.serving import follow as module

    def exported(*arguments):
        folder = served_folder(*arguments)
        local.delete_registered_model_alias(NAME, "champion")
        local.delete_model_version(NAME, "2")
        return folder

    with following(local, stand_in, tmp_path) as (_, said, back):
        monkeypatch.setattr(module, "served_folder", exported)
        local.set_registered_model_alias(NAME, "champion", "2")
        wait_for(said, "Version 1 goes on serving: There is no alias 'champion'")
    assert back == []


@pytest.mark.usefixtures("haproxy")
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        Failure("MLflow does not answer", where="it", remedy="wait", exit_code=ExitCode.UNREACHABLE),
        ProxyFailure("HAProxy refuses `add server`", where="its log", remedy="read the log"),
    ],
)
def test_a_version_is_not_blamed_for_the_disk_the_registry_or_the_proxy_and_tried_again(
    local: MlflowClient, stand_in: EngineCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from pipelines.serving import follow as module

    errors = [error]

    def exported(*arguments):
        if errors:
            raise errors.pop()
        return served_folder(*arguments)

    monkeypatch.setattr(module, "_AGAIN", 0.5)
    with following(local, stand_in, tmp_path) as (_, said, back):
        monkeypatch.setattr(module, "served_folder", exported)
        local.set_registered_model_alias(NAME, "champion", "2")
        wait_for(said, "Version 2 is not served, and version 1 goes on serving")
        wait_for(said, f"is served by version 2 of {NAME}")
    assert back == []


@pytest.mark.usefixtures("haproxy")
def test_a_version_that_failed_before_is_named_once_and_not_started(
    local: MlflowClient, stand_in: EngineCommand, tmp_path: Path
) -> None:
    local.set_model_version_tag(NAME, "2", registry.ROLLOUT_FAILED, "it was slow")
    with following(local, stand_in, tmp_path) as (_, said, back):
        local.set_registered_model_alias(NAME, "champion", "2")
        wait_for(said, "Version 2 failed its rollout: it was slow")
        time.sleep(0.5)
    assert back == [] and sum("it was slow" in line for line in said) == 1


@pytest.mark.usefixtures("haproxy")
def test_a_click_by_somebody_who_is_no_promoter_is_reported_and_not_served(
    local: MlflowClient, stand_in: EngineCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with following(local, stand_in, tmp_path) as (port, said, back), under_load(port, threads=1) as load:
        monkeypatch.setenv("WIKIGPT_PROMOTERS", "grace")
        local.set_registered_model_alias(NAME, "champion", "2")
        wait_for(said, "Version 1 is still the approved champion")
        time.sleep(0.3)
    assert load.failed == [] and load.versions() == [f"{NAME}/1"]
    assert back == []


@pytest.mark.usefixtures("haproxy")
def test_a_version_that_is_not_signed_is_taken_back(
    local: MlflowClient, stand_in: EngineCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, public = make_keys(tmp_path)
    with following(local, stand_in, tmp_path) as (_, said, back):
        monkeypatch.setenv("WIKIGPT_PUBLIC_KEY", str(public))
        local.set_registered_model_alias(NAME, "champion", "2")
        wait_for(back, "sign")
    assert [number for number, _, _ in back] == ["2"], said


@pytest.mark.usefixtures("haproxy")
def test_a_version_that_its_run_has_not_signed_yet_is_waited_for(
    local: MlflowClient, stand_in: EngineCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = make_keys(tmp_path)
    sign(local, resolve(local, "2", NAME), open_signing_key(str(private)))
    tags = resolve(local, "2", NAME).tags
    last = (registry.SIGNED_BY, registry.SIGNATURE, registry.REGISTERED)
    for tag in last:
        local.delete_model_version_tag(NAME, "2", tag)
    with following(local, stand_in, tmp_path) as (_, said, back):
        monkeypatch.setenv("WIKIGPT_PUBLIC_KEY", str(public))
        local.set_registered_model_alias(NAME, "champion", "2")
        wait_for(said, f"Version 2 of {NAME} is not completely registered yet")
        time.sleep(0.3)
        assert back == [] and sum("not completely" in line for line in said) == 1
        for tag in last:
            local.set_model_version_tag(NAME, "2", tag, tags[tag])
        wait_for(said, f"is served by version 2 of {NAME}")
    assert back == []


def change_a_file(folder: Path) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"n_head": 1}))


def add_a_file(folder: Path) -> None:
    (folder / "modeling.py").write_text("raise SystemExit")


@pytest.mark.parametrize("change", [change_a_file, add_a_file])
@pytest.mark.parametrize("manifest", ["kept", "written again"])
def test_the_folder_that_is_served_is_the_one_that_verifies(
    local: MlflowClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
    manifest: str,
) -> None:
    private, public = make_keys(tmp_path)
    sign(local, resolve(local, "1", NAME), open_signing_key(str(private)))
    monkeypatch.setenv("WIKIGPT_PUBLIC_KEY", str(public))
    version = resolve(local, "1", NAME)
    folder = served_folder(local, version, tmp_path / "versions")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    with monkeypatch.context() as patched:
        patched.setattr(evidence, "download_version", None)  # the files are here
        assert served_folder(local, version, tmp_path / "versions") == folder
    change(folder)
    if manifest == "written again":
        write_manifest(folder, KIND)
    assert served_folder(local, version, tmp_path / "versions") == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def test_a_folder_is_exported_once_and_again_if_it_is_damaged(local: MlflowClient, tmp_path: Path) -> None:
    version = resolve(local, "1", NAME)
    folder = served_folder(local, version, tmp_path / "versions")
    made = folder.stat().st_ino
    assert served_folder(local, version, tmp_path / "versions") == folder and folder.stat().st_ino == made
    (folder / "config.json").write_text("{}")
    assert served_folder(local, version, tmp_path / "versions") == folder and folder.stat().st_ino != made
    assert json.loads((folder / "config.json").read_text())["model_type"] == "gpt2"
    assert [path.name for path in folder.parent.iterdir()] == ["wikigpt"]


def test_a_version_without_a_digest_is_refused(local: MlflowClient, tmp_path: Path) -> None:
    local.delete_model_version_tag(NAME, "1", registry.WEIGHTS_DIGEST)
    with pytest.raises(Failure, match=r"has no tag wikigpt.weights_digest"):
        served_folder(local, resolve(local, "1", NAME), tmp_path / "versions")
