"""A variable or a file of AWS that cannot be used is named itself; the endpoint is not blamed, and no key is shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from botocore.exceptions import HTTPClientError

from components.shared.base.failure import ExitCode, Failure
from components.shared.storage.s3 import S3Objects
from components.shared.storage.s3_errors import translate_s3_errors
from components.shared.storage.store import open_store

KEY, SECRET, TOKEN = "AKIDOFATEST", "secretOfTheTest", "tokenOfTheTest"


@pytest.fixture(autouse=True)
def unreachable_endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An endpoint where nothing listens, without the AWS variables and files of the user who runs the tests."""
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in {
        "ACCESS_KEY_ID": KEY, "SECRET_ACCESS_KEY": SECRET, "REGION": "us-east-1", "MAX_ATTEMPTS": "1",
        "ENDPOINT_URL_S3": "http://127.0.0.1:9", "EC2_METADATA_DISABLED": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"AWS_{name}", value)


def refused() -> Failure:
    with pytest.raises(Failure) as caught:
        open_store("s3://bucket/prefix")
    said = str(caught.value)
    assert not any(secret in said for secret in (KEY, SECRET, TOKEN))
    assert "\n" not in said
    return caught.value


def test_an_endpoint_where_nobody_listens_is_still_blamed() -> None:
    failure = refused()
    assert failure.exit_code is ExitCode.UNREACHABLE
    assert "cannot be reached" in failure.what


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ACCESS_KEY_ID", f"{KEY}\n"),
        ("AWS_ACCESS_KEY_ID", f"{KEY}\r\nHost: other"),
        ("AWS_ACCESS_KEY_ID", f" {KEY}"),
        ("AWS_ACCESS_KEY_ID", f"{KEY}é"),
        ("AWS_SECRET_ACCESS_KEY", f"{SECRET}\n"),
        ("AWS_SECRET_ACCESS_KEY", f" {SECRET}"),
        ("AWS_SESSION_TOKEN", f"{TOKEN}\n"),
    ],
)
def test_a_credential_with_a_line_break(monkeypatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    failure = refused()
    assert failure.exit_code is ExitCode.UNAUTHORISED
    assert failure.what.startswith(f"{name} contains a space, a line break")


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("AWS_MAX_ATTEMPTS", "0", "AWS_MAX_ATTEMPTS must be from 1 to 100, got 0; the nearest is 1"),
        ("AWS_MAX_ATTEMPTS", "9" * 20, "; the nearest is 100"),
        ("AWS_MAX_ATTEMPTS", "x", "AWS_MAX_ATTEMPTS must be a whole number from 1 to 100, got 'x'"),
        ("AWS_MAX_ATTEMPTS", "", "AWS_MAX_ATTEMPTS must be a whole number from 1 to 100, got ''"),
        ("AWS_METADATA_SERVICE_TIMEOUT", "x", "AWS_METADATA_SERVICE_TIMEOUT must be a whole number"),
        ("AWS_RETRY_MODE", "foo", "AWS_RETRY_MODE is 'foo'"),
        ("AWS_REGION", "eu central 1", "AWS_REGION is 'eu central 1'"),
        ("AWS_REGION", "us-east-1\n", "AWS_REGION is 'us-east-1\\n'"),
        ("AWS_ENDPOINT_URL_S3", "127.0.0.1:9", "AWS_ENDPOINT_URL_S3 is '127.0.0.1:9'"),
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:99999", "AWS_ENDPOINT_URL_S3 is"),
        ("AWS_ENDPOINT_URL_S3", "http://[::1", "AWS_ENDPOINT_URL_S3 is"),
        ("AWS_CA_BUNDLE", "/none.pem", "AWS_CA_BUNDLE names '/none.pem', which does not exist"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/none", "AWS_WEB_IDENTITY_TOKEN_FILE names '/none', which does not exist"),
        ("AWS_DEFAULTS_MODE", "odd", "boto3 rejects its configuration: Client configured with invalid"),
        ("AWS_ACCOUNT_ID_ENDPOINT_MODE", "odd", "boto3 rejects its configuration: The configured value 'odd'"),
    ],
)
def test_a_variable_that_cannot_be_used(monkeypatch, name: str, value: str, what: str) -> None:
    monkeypatch.setenv(name, value)
    failure = refused()
    assert what in failure.what
    assert failure.exit_code is ExitCode.USAGE
    assert "start it" not in failure.remedy


@pytest.mark.parametrize(("value", "mode"), [(None, "standard"), ("", "standard"), ("legacy", "legacy")])
def test_the_retry_mode_is_the_one_that_is_set(monkeypatch, value: str | None, mode: str) -> None:
    if value is not None:
        monkeypatch.setenv("AWS_RETRY_MODE", value)
    assert S3Objects("s3://bucket/prefix").client.meta.config.retries["mode"] == mode


@pytest.mark.parametrize("name", ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"])
@pytest.mark.parametrize("content", [b"[default\nregion = x\n", b"[default]\nregion = \xff\n"])
def test_a_file_of_aws_that_is_broken(monkeypatch, tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "broken"
    path.write_bytes(content)
    monkeypatch.setenv(name, str(path))
    if name == "AWS_SHARED_CREDENTIALS_FILE":
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    failure = refused()
    assert f"Unable to parse config file: {path}" in failure.what
    assert failure.exit_code is ExitCode.USAGE


def test_what_the_transport_quotes_is_not_repeated() -> None:
    error = HTTPClientError(error=ValueError(f"Invalid header value b'Credential={KEY}'"))
    with pytest.raises(Failure) as caught, translate_s3_errors("s3://bucket"):
        raise error
    assert KEY not in str(caught.value)
    assert "The request to object storage cannot be made (ValueError)" in caught.value.what
