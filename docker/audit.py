"""Compares the locks of the images with the advisories of the OSV database: `make audit`.

pip-audit sends the name and the version of each locked package to the database. The advisories that are known and stand
are in docker/lock/advisories.toml, each with the reason.

Exit codes: 0 if every advisory has a reason, 1 if one has none or pip-audit fails, 3 if the database cannot be reached.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

LOCK = Path(__file__).parent / "lock"
# pip-audit reads this variable too.
DATABASE = os.environ.get("PIP_AUDIT_OSV_URL", "https://api.osv.dev/v1/query")


def main() -> int:
    packages = pins("\n".join(path.read_text(encoding="utf-8") for path in sorted(LOCK.glob("*.txt"))))
    accepted = tomllib.loads((LOCK / "advisories.toml").read_text(encoding="utf-8"))
    if problem := unreachable(DATABASE):
        print(f"The database of advisories cannot be reached ({DATABASE}: {problem}): run this where it can.")
        return 3
    ended = scan(packages)
    try:
        report = json.loads(ended.stdout)
    except ValueError:
        print(f"pip-audit failed: {(ended.stderr.strip().splitlines() or ['it printed nothing'])[-1]}")
        return 1
    lines, every_one_has_a_reason = judge(report, accepted)
    print("\n".join(lines))
    return 0 if every_one_has_a_reason else 1


def pins(locks: str) -> dict[str, list[str]]:
    """Returns the versions of each package that locks pin: one, unless they differ by platform or image."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)={2,3}([\w.+!-]+)", locks, re.MULTILINE):
        found.setdefault(name.lower(), set()).add(version)
    return {name: sorted(versions) for name, versions in found.items()}


def unreachable(address: str) -> str | None:
    """Returns why a server does not answer; None if it does, whatever it answers."""
    try:
        urllib.request.urlopen(address, timeout=10).close()
    except urllib.error.HTTPError:
        return None
    except OSError as error:
        return str(getattr(error, "reason", error))
    return None


def scan(packages: dict[str, list[str]]) -> subprocess.CompletedProcess[str]:
    """Runs pip-audit on the packages. It refuses two versions of a package in one file, so each is in another file."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--vulnerability-service", "osv"]
        for number in range(max(map(len, packages.values()))):
            path = Path(folder) / f"{number}.txt"
            lines = [f"{name}=={versions[number]}" for name, versions in packages.items() if len(versions) > number]
            path.write_text("\n".join(lines), encoding="utf-8")
            command += ["--requirement", str(path)]
        return subprocess.run(
            [*command, "--format", "json", "--progress-spinner", "off"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )


def judge(report: dict, accepted: dict[str, dict[str, str]]) -> tuple[list[str], bool]:
    """Compares the report of pip-audit with the advisories that stand.

    Returns:
        The lines to print, and whether every advisory has a reason.
    """
    packages = [package for package in report["dependencies"] if "vulns" in package]
    skipped = [package["name"] for package in report["dependencies"] if "vulns" not in package]
    found = {
        advisory[
            "id"
        ]: f"{package['name']} {package['version']}, fixed in {', '.join(advisory['fix_versions']) or 'no release'}"
        for package in packages
        for advisory in package["vulns"]
    }
    without = sorted(found.keys() - accepted.keys())
    standing = len(found) - len(without)
    lines = [
        f"{len(packages)} packages were compared. Advisories: {len(found)}, of which {standing} stand with a reason."
    ]
    lines += [f"{name} ({found[name]}): {accepted[name]['reason']}" for name in sorted(found.keys() & accepted.keys())]
    lines += [
        f"{name} ({found[name]}): no reason is given. Upgrade the package, or add the advisory to advisories.toml."
        for name in without
    ]
    lines += [
        f"{name}: no package has it any more. Remove it from advisories.toml." for name in accepted if name not in found
    ]
    lines += [f"{name}: pip-audit could not compare it." for name in skipped]
    return lines, not without


if __name__ == "__main__":
    sys.exit(main())
