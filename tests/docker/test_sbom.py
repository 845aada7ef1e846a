"""The bill of materials of an image; that of a real image is tested in test_step_image.py."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.docker.engine import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "docker"))
import sbom

TORCH = sbom.Package("pypi", "torch", "2.13.0", ("BSD-3-Clause",))
LIBC = sbom.Package("deb", "libc6", "2.41-12", ("GPL-2.0-only", "LGPL-2.1-or-later OR BSD-3-Clause"))
UNNAMED = sbom.Package("pypi", "odd", "1", ())


def test_it_is_valid_cyclonedx_with_an_address_for_each_package() -> None:
    written = sbom.cyclonedx("registry.example/team/wikigpt:1.2", [TORCH, LIBC, UNNAMED])
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(written) is None
    document = json.loads(written)
    assert document["metadata"]["component"]["name"] == "wikigpt"
    assert document["metadata"]["component"]["version"] == "1.2"
    assert {each["purl"] for each in document["components"]} == {
        "pkg:pypi/torch@2.13.0",
        "pkg:deb/debian/libc6@2.41-12",
        "pkg:pypi/odd@1",
    }


def test_a_licence_of_spdx_is_named_by_its_identifier() -> None:
    (component,) = json.loads(sbom.cyclonedx("image", [TORCH]))["components"]
    assert component["licenses"] == [{"license": {"id": "BSD-3-Clause"}}]


def test_the_table_is_sorted_by_licence_and_says_where_none_is_named() -> None:
    lines = sbom.table([UNNAMED, TORCH]).splitlines()
    assert [line.split() for line in lines] == [["BSD-3-Clause", "torch", "2.13.0"], ["not", "named", "odd", "1"]]


def client(folder: Path, script: str) -> str:
    """A program in place of the Docker client."""
    program = folder / "docker"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def test_the_program_that_collects_lists_the_packages_of_the_python_that_runs_it(tmp_path: Path) -> None:
    """The packages of the tests, and one package of Debian."""
    dpkg = tmp_path / "dpkg-query"
    dpkg.write_text("#!/bin/sh\nprintf 'libc6\\t2.41\\n'\n")
    dpkg.chmod(0o755)
    docker = client(tmp_path, f"PATH={tmp_path}:$PATH exec {sys.executable} -")
    found = sbom.packages("image", docker)
    assert any(package.kind == "deb" and package.name == "libc6" for package in found)
    assert any(package.name == "pytest" and package.licences == ("MIT",) for package in found)
    assert found == sorted(set(found))


def test_an_image_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    docker = client(tmp_path, "echo 'no such image' >&2; exit 125")
    with pytest.raises(SystemExit, match="image could not be read: no such image"):
        sbom.packages("image", docker)
