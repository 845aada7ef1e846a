"""The registry as it runs on a cluster: its image, started and backed up by the manifests, on PostgreSQL and real S3.

The actions of the cluster are read from the built objects; only addresses are those of this machine.
"""

import hashlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen
from uuid import uuid4

import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tests.docker.engine import CONFINED, docker, image, running
from tests.e2e.conftest import TINY, wikigpt
from tests.http_servers import free_port
from tests.infra.objects import INFRA, containers, one, pod_specs
from tests.postgres import postgres  # noqa: F401 -- a fixture
from tests.registry import make_folders, make_model, make_step, register
from tests.s3_servers import make_bucket

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ADMIN = ("admin", "an admin's passphrase")
PIPELINE = ("pipeline", "p@ss/w:rd%1 of steps")
READER = ("reader", "just looking on")
ROOT = "overlays/production"
NAME = "wikigpt-sample"


@dataclass(frozen=True)
class Place:
    """The addresses of the server, its database and its objects on this machine."""

    port: int
    database: dict[str, str]
    storage: dict[str, str]
    bucket: str

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """The variables that the server gets from the config map and the Secrets of the manifest."""
        return {
            **one(ROOT, "ConfigMap", "mlflow")["data"],
            "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{self.bucket}/mlflow",
            "MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE": "path",
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "of a test",
            "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN[0],
            "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
            "MLFLOW_WORKERS": "1",
            **self.database,
            **self.storage,
        }


@pytest.fixture(scope="module")
def place(postgres: str, _server: dict[str, str]) -> Place:  # noqa: F811
    database = urlsplit(postgres)
    storage = {**_server, "AWS_DEFAULT_REGION": _server["AWS_REGION"], "WIKIGPT_S3_PATH_STYLE": "1"}
    bucket = f"registry-{uuid4().hex[:8]}"
    make_bucket(bucket, _server)
    return Place(
        port=free_port(),
        database={
            "PGHOST": str(database.hostname),
            "PGPORT": str(database.port),
            "PGUSER": str(database.username),
            "PGPASSWORD": "with @ / : and %",
            "PGDATABASE": database.path.removeprefix("/"),
        },
        storage=storage,
        bucket=bucket,
    )


@pytest.fixture
def as_pipeline(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment of a step that registers."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place.uri)
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    sign_in(monkeypatch, *PIPELINE)


def test_the_whole_pipeline_runs_as_its_own_user_on_an_empty_registry(place: Place, tmp_path: Path) -> None:
    """The administrator, who may read everything, would hide a missing permission of the first run."""
    empty_database(place)
    migrate(place)
    variables = {"MLFLOW_TRACKING_URI": place.uri}
    variables |= {"MLFLOW_TRACKING_USERNAME": PIPELINE[0], "MLFLOW_TRACKING_PASSWORD": PIPELINE[1]}
    arguments = ("run", "--json", "--profile", TINY, "--home", tmp_path / "home", "--set")
    with serving(place):
        make_user(place, *PIPELINE)
        first = wikigpt(*arguments, "train.seed=1", **variables).document
        assert (first["status"], first["version"]["version"], first["version"]["aliases"]) == (
            "trained",
            "1",
            ["champion"],
        )
        again = wikigpt(*arguments, "train.seed=1", **variables).document
        assert again["status"] == "skipped"
        second = wikigpt(*arguments, "train.seed=2", **variables).document
        assert (second["status"], second["version"]["version"]) == ("trained", "2")
    empty_database(place)


def test_nothing_is_lost_over_a_restart_a_backup_and_a_restore(
    place: Place,
    as_pipeline: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make_model(tmp_path / "model", "gpt2")
    migrate(place)
    with serving(place):
        assert refusal(place, auth=None) == refusal(place, auth=(ADMIN[0], "a wrong password")) == 401
        assert refusal(place, auth=ADMIN, host="evil.example") == 403
        for user in (PIPELINE, READER):
            make_user(place, *user)
        folders = make_folders(tmp_path / "a", model, reuse_key="f" * 32)
        version = register(make_step("run-1"), folders)
        client = MlflowClient(place.uri)
        assert client.get_model_version_by_alias(NAME, "champion").version == version
        weights = digest_of_weights(tmp_path / "first")

        sign_in(monkeypatch, *READER)
        assert client.get_model_version(NAME, version).status == "READY"
        with pytest.raises(MlflowException, match="Permission denied"):
            client.set_registered_model_alias(NAME, "champion", version)
        sign_in(monkeypatch, PIPELINE[0], "a wrong password")
        with pytest.raises(MlflowException, match="401"):
            client.get_model_version(NAME, version)

    sign_in(monkeypatch, *PIPELINE)
    with serving(place):
        assert client.get_model_version_by_alias(NAME, "champion").version == version
        assert digest_of_weights(tmp_path / "second") == weights
        backup(place, tmp_path / "backup")
        second = make_folders(tmp_path / "b", model, reuse_key="e" * 32, nll_per_word=5.0, weights=1)
        assert register(make_step("run-2"), second) == "2"

    empty_database(place)
    restore(place, tmp_path / "restored")
    with serving(place):
        assert [found.version for found in client.search_model_versions(f"name = '{NAME}'")] == [version]
        assert client.get_model_version_by_alias(NAME, "champion").version == version
        assert digest_of_weights(tmp_path / "third") == weights
        assert register(make_step("run-3"), second) == "2"
        let_promote(place, READER[0])
        sign_in(monkeypatch, *READER)
        client.set_registered_model_alias(NAME, "champion", version)


def migrate(place: Place) -> None:
    """The deployment's init container."""
    (container,) = deployment()["initContainers"]
    in_image(place.database, *container["command"])


@contextmanager
def serving(place: Place) -> Iterator[None]:
    """The deployment's container, with the manifest's arguments and settings; it is ready when the probe answers."""
    (container,) = deployment()["containers"]
    local = {"--host=0.0.0.0": "--host=127.0.0.1", "--port=5000": f"--port={place.port}", "--workers=2": "--workers=1"}
    arguments = [local.get(argument, argument) for argument in container["args"]]
    options = [f"--volume={INFRA}/base/mlflow/auth.ini:/etc/mlflow/auth.ini:ro", *variables(place.environment())]
    with running(*CONFINED, "--network=host", *options, image("mlflow"), *arguments) as name:
        wait_for(f"{place.uri}{container['readinessProbe']['httpGet']['path']}", name)
        yield


def backup(place: Place, folder: Path) -> None:
    """The containers of the backup job, in order; pg_dump is this machine's."""
    (pod,) = [pod for name, pod in pod_specs(ROOT) if name == "wikigpt/mlflow-backup"]
    dump, keep = containers(pod)
    folder.mkdir()
    on_this_machine(place, dump["command"], folder)
    in_image(storage_of_backups(place), *keep["command"], volumes=scripts_and(folder))


def restore(place: Place, folder: Path) -> None:
    """The containers of the job that restores, in order."""
    ((_, pod),) = pod_specs("restore")
    fetch, put_back = containers(pod)
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    newest = [argument.replace("$(DUMP)", "") for argument in fetch["command"]]
    in_image(storage_of_backups(place), *newest, volumes=scripts_and(folder))
    on_this_machine(place, put_back["command"], folder)


def empty_database(place: Place) -> None:
    for program in ("dropdb", "createdb"):
        on_this_machine(place, [program, place.database["PGDATABASE"]], Path("/"))


def on_this_machine(place: Place, command: list[str], folder: Path) -> None:
    """Runs one of PostgreSQL's programs; the volume /backup of the pod is a folder."""
    (programs,) = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]
    local = [
        argument.replace("$(PGDATABASE)", place.database["PGDATABASE"]).replace("/backup", str(folder))
        for argument in command
    ]
    subprocess.run([programs / local[0], *local[1:]], env=place.database, check=True, timeout=120)


def in_image(environment: dict[str, str], *command: str, volumes: tuple[str, ...] = ()) -> str:
    program, *arguments = command
    return docker(
        "run", "--rm", *CONFINED, "--network=host", *volumes, *variables(environment),
        f"--entrypoint={program}", image("mlflow"), *arguments,
    )  # fmt: skip


def storage_of_backups(place: Place) -> dict[str, str]:
    settings = one(ROOT, "ConfigMap", "mlflow-backup")["data"]
    return {**settings, **place.storage, "BACKUP_URI": f"s3://{place.bucket}/backup"}


def scripts_and(folder: Path) -> tuple[str, ...]:
    return (f"--volume={INFRA}/backup/backup.py:/scripts/backup.py:ro", f"--volume={folder}:/backup")


def deployment() -> dict:
    return one(ROOT, "Deployment", "mlflow")["spec"]["template"]["spec"]


def variables(environment: dict[str, str]) -> list[str]:
    return [f"--env={name}={value}" for name, value in environment.items()]


def wait_for(address: str, container: str) -> None:
    for _ in range(240):
        try:
            urlopen(address, timeout=5).close()
            return
        except (OSError, HTTPError):
            time.sleep(0.5)
    pytest.fail(f"the server did not start:\n{docker('logs', container)}")


def refusal(place: Place, *, auth: tuple[str, str] | None, host: str | None = None) -> int:
    """The status of the answer to a request that only users of the server may make."""
    address = f"{place.uri}/api/2.0/mlflow/experiments/search?max_results=1"
    return requests.get(address, auth=auth, headers={"Host": host} if host else {}, timeout=30).status_code


def make_user(place: Place, name: str, password: str) -> None:
    """Follows docs/cluster.md."""
    user = {"username": name, "password": password}
    requests.post(f"{place.uri}/api/2.0/mlflow/users/create", json=user, auth=ADMIN, timeout=30).raise_for_status()


def let_promote(place: Place, name: str) -> None:
    """Follows docs/cluster.md."""
    right = {"username": name, "resource_type": "registered_model", "resource_id": NAME, "permission": "EDIT"}
    address = f"{place.uri}/api/3.0/mlflow/users/permissions/grant"
    requests.post(address, json=right, auth=ADMIN, timeout=30).raise_for_status()


def sign_in(monkeypatch: pytest.MonkeyPatch, name: str, password: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)


def digest_of_weights(folder: Path) -> str:
    """Downloads the champion through the server."""
    from mlflow.artifacts import download_artifacts

    folder.mkdir()
    path = Path(download_artifacts(artifact_uri=f"models:/{NAME}@champion", dst_path=str(folder)))
    (weights,) = path.rglob("model.safetensors")
    return hashlib.sha256(weights.read_bytes()).hexdigest()
