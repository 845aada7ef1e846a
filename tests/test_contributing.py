"""What checks a commit: the parts of .ci/run, hooks, workflows, a development container."""

import json
import re
import subprocess
import tomllib

import pytest
import yaml

from components.shared.base.renamed_keys import RENAMED
from tests.test_docs import ROOT

TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))


def parts() -> list[str]:
    (listed,) = re.findall(r'^PARTS="(.*)"$', (ROOT / ".ci/run").read_text(), re.M)
    return listed.split()


def test_ci_runs_every_part_that_it_lists():
    script = (ROOT / ".ci/run").read_text()
    assert re.findall(r"^if wanted (\w+)", script, re.M) == parts()


def test_ci_refuses_a_part_that_it_does_not_have():
    ended = subprocess.run([ROOT / ".ci/run", "lint", "dayly"], capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr == f".ci/run has no part 'dayly': give some of {' '.join(parts())}.\n"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_runs_parts_and_targets_that_exist_and_may_only_read(workflow):
    content = yaml.safe_load(workflow.read_text())
    assert content["permissions"] == {"contents": "read"}
    for job in content["jobs"].values():
        matrix = job.get("strategy", {}).get("matrix", {}).get("include", [])
        assert {part for entry in matrix for part in entry["parts"].split()} <= set(parts())
        commands = [step["run"] for step in job["steps"] if "run" in step]
        assert commands
        for command in commands:
            assert command == ".ci/run ${{ matrix.parts }}" or command.removeprefix("make ") in TARGETS, command


def test_the_workflows_run_every_part_that_needs_no_test_data():
    content = yaml.safe_load((ROOT / ".github/workflows/checks.yaml").read_text())
    matrix = content["jobs"]["check"]["strategy"]["matrix"]["include"]
    assert {part for entry in matrix for part in entry["parts"].split()} == set(parts()) - {"environment", "real"}


def test_a_hook_runs_a_tool_of_the_environment_or_a_target():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tools = {re.split(r"[\[><=]", need)[0] for need in project["optional-dependencies"]["test"]}
    assert repository["repo"] == "local" and len(repository["hooks"]) == 4
    for hook in repository["hooks"]:
        program, *arguments = hook["entry"].split()
        assert hook["language"] == "system"
        assert arguments[-1] in TARGETS if program == "make" else program.removeprefix(".venv/bin/") in tools, hook


def test_the_development_container_has_a_python_that_the_project_supports():
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (minor,) = re.findall(r"^python:3\.(\d+)-bookworm$", container["image"])
    (least,) = re.findall(r"^>=3\.(\d+)$", project["requires-python"])
    assert int(minor) >= int(least)
    assert container["onCreateCommand"].removeprefix("make ") in TARGETS


def test_dependabot_looks_where_dependencies_are():
    files = {"pip": "pyproject.toml", "docker": "Dockerfile", "github-actions": ".github/workflows"}
    updates = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]
    assert {update["package-ecosystem"] for update in updates} == set(files)
    for update in updates:
        assert (ROOT / update["directory"].strip("/") / files[update["package-ecosystem"]]).exists(), update


def test_the_changelog_names_every_setting_that_was_renamed():
    rows = set(re.findall(r"^ *\| `(\w+)` \| `(\w+)` \|$", (ROOT / "CHANGELOG.md").read_text(), re.M))
    assert rows >= {(old.partition(".")[2], new.partition(".")[2]) for old, new in RENAMED.items()}


def test_the_contributing_page_names_targets_that_exist():
    named = re.findall(r"\bmake ([a-z-]+)", re.sub(r"[^`]`[^`]*$", "", (ROOT / "CONTRIBUTING.md").read_text()))
    assert {"lint", "test", "golden", "docs", "audit"} <= set(named) & TARGETS
