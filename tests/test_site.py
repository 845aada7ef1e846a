"""The generated pages of the documentation site, and the links between its pages."""

import re
from dataclasses import fields, is_dataclass

import pytest
import yaml

from components.shared.base.failure import ExitCode
from docs.generator import environment_page, links
from docs.generator.commands_page import commands, commands_page
from docs.generator.dialect import in_mkdocs_dialect
from docs.generator.environment_page import GROUPS
from docs.generator.exit_codes_page import exit_codes_page
from docs.generator.settings_page import settings_page
from pipelines.config.cluster import ClusterSettings
from pipelines.config.resources import StepResources
from pipelines.config.settings import SECTIONS
from pipelines.steps import STEPS
from tests.test_docs import PAGES, ROOT


def nav(entries: list) -> list[str]:
    """The pages of a navigation, in order."""
    found = []
    for entry in entries:
        (value,) = entry.values()
        found += nav(value) if isinstance(value, list) else [value]
    return found


def test_the_page_of_settings_has_every_setting_with_its_default_and_meaning():
    page = settings_page()
    rows = re.findall(r"^\| `(\w+)`\{ #([\w.]+) \} \|(.*)\|$", page, re.M)
    shown = [anchor for _, anchor, _ in rows]
    wanted = [f"{section}.{field.name}" for section, kind in SECTIONS.items() for field in fields(kind)]
    wanted += [f"cluster.{field.name}" for field in fields(ClusterSettings) if field.name not in STEPS]
    wanted += [f"cluster.step.{field.name}" for field in fields(StepResources)]
    assert shown == wanted
    for key, anchor, rest in rows:
        cells = [cell.strip() for cell in rest.split(" | ")]
        assert anchor.endswith(f".{key}") and all(cells), anchor
        assert len(cells) == (2 if ".step." in anchor else 3), anchor
    assert "| `gpus` | `0` | `0` | `0` | `1` | `1` | `0` | `0` |" in page
    assert not [field for kind in SECTIONS.values() for field in fields(kind) if is_dataclass(field.type)]


def test_a_setting_is_shown_with_its_range_and_as_a_profile_writes_it():
    page = settings_page()
    assert "| `seed`{ #train.seed } | `1` | whole number from 0 to 18,446,744,073,709,551,615 |" in page
    assert "| `optimizer`{ #train.optimizer } | `adamw` | `adamw` or `muon` |" in page
    assert (
        "| `key_value_heads`{ #train.key_value_heads } | `null` | whole number from 1 to 512, or `null` | as above |"
        in page
    )
    assert "| `protocols`{ #evaluate.protocols } | `[wikitext-word]` | a list of: `wikitext-word` or `hf-doc`" in page


def test_the_page_of_commands_has_every_command_with_every_option():
    page = commands_page()
    names = [name for name, _ in commands()]
    assert re.findall(r"^## `(.+)`$", page, re.M) == names
    assert {"wikigpt run", "wikigpt schedule apply", "wikigpt promote"} <= set(names) and len(names) > 20
    for name, command in commands():
        (text,) = re.findall(rf"^## `{name}`\n(.*?)(?=^## |\Z)", page, re.M | re.S)
        assert text.strip().splitlines()[0].endswith("."), name
        for parameter in command.params:
            for option in [*parameter.opts, *parameter.secondary_opts]:
                shown = option if option.startswith("-") else (parameter.metavar or option.upper())
                assert shown in text, f"{name} {option}"


def test_the_page_of_exit_codes_has_every_code():
    rows = re.findall(r"^\| `(\d+)` \| `(\w+)` \| (\S.*) \|$", exit_codes_page(), re.M)
    assert [(int(code), name) for code, name, _ in rows] == [(int(each), each.name) for each in ExitCode]


def test_the_page_of_variables_has_every_variable_that_the_code_names():
    page = environment_page.environment_page()
    assert all(f"| `{name}` |" in page for group in GROUPS.values() for name in group)


def test_a_variable_that_no_page_describes_fails_the_build(monkeypatch):
    found = environment_page.variables_in_code() - {"WIKIGPT_HOME"} | {"WIKIGPT_NEW"}
    monkeypatch.setattr(environment_page, "variables_in_code", lambda: found)
    with pytest.raises(ValueError, match="differ in WIKIGPT_HOME, WIKIGPT_NEW"):
        environment_page.environment_page()


def test_the_navigation_has_every_page_once():
    generated = [
        "reference/settings.md",
        "reference/commands.md",
        "reference/exit-codes.md",
        "reference/environment.md",
    ]
    pages = [page.relative_to(ROOT).as_posix() for page in PAGES if page != ROOT / "infra/README.md"]
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert sorted(nav(config["nav"])) == sorted([*generated, *map(links.site_path, pages)])


@pytest.mark.parametrize(
    ("page", "link", "on_the_site"),
    [
        ("README.md", "[a](docs/training.md#speed)", "[a](training.md#speed)"),
        ("README.md", "![a](docs/images/pipeline.svg)", "![a](images/pipeline.svg)"),
        ("docs/training.md", "[a](../README.md)", "[a](index.md)"),
        ("docs/training.md", "[a](reuse.md)", "[a](reuse.md)"),
        ("docs/reuse.md", "[`x`](../components/train/run.py)", "[`x`](source/components/train/run.py.md)"),
        ("CONTRIBUTING.md", "[a](SECURITY.md)", "[a](security.md)"),
        ("README.md", "[a](https://example.org/b) [c](#corpora)", "[a](https://example.org/b) [c](#corpora)"),
        ("README.md", "```sh\n[a](nowhere)\n```\n[b](docs/home.md)", "```sh\n[a](nowhere)\n```\n[b](home.md)"),
    ],
)
def test_a_link_leads_to_a_page_of_the_site(page, link, on_the_site):
    assert links.rewrite(link, page) == on_the_site


@pytest.mark.parametrize("link", ["[a](docs/gone.md)", "[a](components/gone.py)", "[a](../main/README.md)"])
def test_a_broken_link_fails_the_build(link):
    with pytest.raises(links.BrokenLink, match=r"README.md links to .*: fix the link"):
        links.rewrite(link, "README.md")


def test_the_site_has_a_page_for_each_linked_file_and_folder():
    page = "docs/architecture.md"
    linked = links.linked_code((ROOT / page).read_text(), page)
    assert {"components/train/run.py", "pipelines/config/profiles/quick.yaml"} <= linked
    assert not [path for path in linked if path.startswith("docs/")]
    assert "``````python\n" in links.code_page("components/train/run.py", linked)
    folder = links.code_page("components/train", linked)
    assert "- [`run.py`](train/run.py.md): " in folder and "- `extras/bigram.py`: " in folder


def test_warnings_and_tables_have_the_syntax_of_the_site():
    assert in_mkdocs_dialect("a\n\n> [!WARNING]\n> One\n> two.\n\nb") == "a\n\n!!! warning\n\n    One\n    two.\n\nb"
    assert in_mkdocs_dialect("> **Warning.** One\n> two.\n") == "!!! warning\n\n    One\n    two.\n"
    assert in_mkdocs_dialect("> A quotation.\n") == "> A quotation.\n"
    assert in_mkdocs_dialect("| a \\| b | `c \\| d` |\n") == "| a \\| b | `c | d` |\n"
    for page in PAGES:
        assert not re.search(r"^> ?(\[!|\*\*W)", in_mkdocs_dialect(page.read_text()), re.M), page
