"""Paths that are given on the command line and in variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.shared.base.failure import ExitCode, Failure
from pipelines.config.paths import absolute


@pytest.mark.parametrize(
    "given", ["s3:/bucket", "s3://bucket/prefix", Path("s3://bucket"), "https:/host/x", "hf:/owner/name", "file:///x"]
)
def test_an_address_makes_no_folder_of_its_scheme(given: Path | str) -> None:
    with pytest.raises(Failure, match="--home is not a path: an address needs two slashes") as caught:
        absolute(given, "--home")
    assert caught.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("given", ["a:b", "s3", "c:/x", "./corpus/s3:/x"])
def test_other_colons_are_part_of_a_name(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute(given, "--home") == tmp_path / given
