"""Writes the SBOM of an image: `python docker/sbom.py IMAGE > sbom.json`, or `--licences` for a readable table.

The SBOM is CycloneDX 1.6 in JSON, with the version and licence of every Python and Debian package of the image. It is
collected in a container of the image, so it lists what runs and not what a lock file asked for. The program needs a
Docker engine and the packages of the extra `test`.
"""

import argparse
import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

# The Python of the image runs this program, so it may use the standard library only.
COLLECT = r"""
import json, re, subprocess
from importlib.metadata import distributions
from pathlib import Path

def licences(meta):
    if meta["License-Expression"]:
        return [meta["License-Expression"]]
    if meta["License"] and len(meta["License"]) < 60:
        return [meta["License"]]
    named = [value for value in meta.get_all("Classifier", []) if value.startswith("License :: ")]
    return [value.rpartition(" :: ")[2] for value in named]

def debian(name):
    text = Path("/usr/share/doc", name, "copyright")
    lines = text.read_text(encoding="utf-8", errors="replace").splitlines() if text.is_file() else []
    return sorted({line.partition(":")[2].strip() for line in lines if re.match(r"License: *\S", line)})

found = [("pypi", d.metadata["Name"], d.version, licences(d.metadata)) for d in distributions()]
query = ["dpkg-query", "--show", "--showformat", "${Package}\t${Version}\n"]
for line in subprocess.run(query, capture_output=True, encoding="utf-8", check=True).stdout.splitlines():
    name, version = line.split("\t")
    found.append(("deb", name, version, debian(name)))
print(json.dumps(found))
"""


@dataclass(frozen=True, order=True)
class Package:
    """One package of an image: its kind (pypi or deb), name, version and the licences that it declares."""

    kind: str
    name: str
    version: str
    licences: tuple[str, ...]


def packages(image: str, docker: str = "docker") -> list[Package]:
    """Returns the packages that are installed in an image, sorted."""
    command = [docker, "run", "--rm", "--interactive", "--network=none", "--entrypoint=python3", image, "-"]
    done = subprocess.run(command, input=COLLECT, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode:
        raise SystemExit(f"{image} could not be read: {done.stderr.strip()}")
    found = json.loads(done.stdout)
    return sorted({Package(kind, name, version, tuple(licences)) for kind, name, version, licences in found})


def cyclonedx(image: str, found: Iterable[Package]) -> str:
    """Returns the packages as a CycloneDX 1.6 document."""
    name, _, version = image.rpartition("/")[2].partition(":")
    held_by = Component(name=name, version=version or None, type=ComponentType.CONTAINER, bom_ref="image")
    bom = Bom()
    bom.metadata.component = held_by
    for package in found:
        address = PackageURL(package.kind, "debian" if package.kind == "deb" else None, package.name, package.version)
        component = Component(
            name=package.name, version=package.version, purl=address, bom_ref=str(address), type=ComponentType.LIBRARY
        )
        component.licenses.update(_licences(package))
        bom.components.add(component)
    bom.register_dependency(held_by, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=1)


def table(found: Iterable[Package]) -> str:
    """Returns a readable table of licence, package and version."""
    rows = [(" AND ".join(package.licences) or "not named", package.name, package.version) for package in found]
    return "\n".join(f"{licence[:60]:60}  {name} {version}" for licence, name, version in sorted(rows))


def _licences(package: Package) -> list:
    """Returns SPDX licences where a name is an SPDX one. CycloneDX accepts either one expression or several names."""
    made = [LicenseFactory().make_from_string(name) for name in package.licences]
    if len(made) > 1 and any(isinstance(licence, LicenseExpression) for licence in made):
        return [LicenseFactory().make_with_name(name) for name in package.licences]
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("--licences", action="store_true", help="a table of licences instead of CycloneDX")
    parser.add_argument("--docker", default="docker", help="the client to use")
    chosen = parser.parse_args()
    found = packages(chosen.image, chosen.docker)
    print(table(found) if chosen.licences else cyclonedx(chosen.image, found))


if __name__ == "__main__":
    main()
