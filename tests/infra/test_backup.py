"""The script of the backup job, against an emulated S3."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
from moto import mock_aws

from components.shared.storage.s3 import S3Objects
from tests.infra.objects import INFRA

BUCKET = "backups"


@pytest.fixture
def backup(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module with its environment and an empty bucket."""
    for name, value in {
        "BACKUP_URI": f"s3://{BUCKET}/mlflow",
        "BACKUP_KEEP": "2",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    spec = importlib.util.spec_from_file_location("backup", INFRA / "backup" / "backup.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield module


def dump(folder: Path, content: bytes = b"PGDMP and the rest") -> Path:
    path = folder / "mlflow.dump"
    path.write_bytes(content)
    return path


def fill(names: list[str]) -> None:
    for name in names:
        boto3.client("s3").put_object(Bucket=BUCKET, Key=f"mlflow/{name}", Body=b"PGDMP", Metadata={"sha256": "?"})


def test_a_dump_comes_back_as_it_was(backup: ModuleType, tmp_path: Path) -> None:
    backup.main(["put", str(dump(tmp_path))])
    backup.main(["get", str(tmp_path / "back"), ""])
    assert (tmp_path / "back").read_bytes() == b"PGDMP and the rest"


def test_only_the_newest_stay(backup: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    old = ["2020-01-01T01-30-00Z.dump", "2020-01-02T01-30-00Z.dump"]
    fill(old)
    backup.main(["put", str(dump(tmp_path))])
    said = json.loads(capsys.readouterr().out)
    assert said["removed"] == [old[0]]
    backup.main(["list"])
    assert capsys.readouterr().out.split() == [old[1], said["kept"]]


def test_what_is_no_dump_is_not_kept_and_removes_nothing(backup: ModuleType, tmp_path: Path) -> None:
    old = [f"2020-01-0{day}T01-30-00Z.dump" for day in (1, 2, 3)]
    fill(old)
    with pytest.raises(SystemExit, match="nothing was uploaded"):
        backup.main(["put", str(dump(tmp_path, b""))])
    assert backup.Dumps(f"s3://{BUCKET}/mlflow").names() == old


def test_a_damaged_dump_is_not_restored(backup: ModuleType, tmp_path: Path) -> None:
    fill(["2020-01-01T01-30-00Z.dump"])
    with pytest.raises(SystemExit, match="damaged"):
        backup.main(["get", str(tmp_path / "back")])


def test_no_dump_at_all_is_said(backup: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no dump"):
        backup.main(["get", str(tmp_path / "back")])


@pytest.mark.parametrize("endpoint", [None, "https://storage.example"])
@pytest.mark.parametrize("style", [None, "", "0", "1"])
def test_the_style_of_addresses_means_to_the_backup_what_it_means_to_the_store(
    backup: ModuleType, style: str | None, endpoint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"WIKIGPT_S3_PATH_STYLE": style, "AWS_ENDPOINT_URL_S3": endpoint}.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)

    def address(client: Any) -> str:
        signed = client.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "mlflow/x"})
        return signed.partition("?")[0]

    assert address(backup.Dumps(f"s3://{BUCKET}/mlflow").client) == address(S3Objects(f"s3://{BUCKET}/mlflow").client)


def test_another_style_is_refused(backup: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIKIGPT_S3_PATH_STYLE", "yes")
    with pytest.raises(SystemExit, match="WIKIGPT_S3_PATH_STYLE is 'yes'"):
        backup.main(["list"])
