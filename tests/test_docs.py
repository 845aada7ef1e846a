"""The pages name files, functions, packages, settings and headings that exist."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest
import typer
import yaml

from components.shared.reuse.keys import EXCLUDED_MODULES, SOURCES
from pipelines.config.cluster import ClusterSettings
from pipelines.config.settings import SECTIONS
from tests.infra.page import commands, mentioned, parse, section, text_of
from tests.test_house_rules import LEVELS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), ROOT / "infra/README.md", *(ROOT / "docs").glob("*.md")])
ARCHITECTURE = ROOT / "docs/architecture.md"
# Sections of settings, by the keys that a page may name as `section.key`.
KEYS = {section: {field.name for field in fields(kind)} for section, kind in SECTIONS.items()}
ENDINGS = {"bin", "json", "npy", "py", "txt", "yaml"}  # `train.txt` is a file and not a setting
KEYS["cluster"] = {field.name for field in fields(ClusterSettings)}
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rows(title: str) -> list[list[str]]:
    """The cells of the table below a heading of the page about the architecture, without its header."""
    (text,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", ARCHITECTURE.read_text(), re.M | re.S)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def definitions(path: Path) -> set[str]:
    """Names that a file defines at its top, members as `Class.name`; of a YAML file the keys, as `section.key`."""
    if path.suffix == ".yaml":
        loaded = yaml.safe_load(path.read_text())
        return {f"{section}.{key}" for section, keys in loaded.items() if isinstance(keys, dict) for key in keys}
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
            found |= {f"{node.name}.{each.target.id}" for each in node.body if isinstance(each, ast.AnnAssign)}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_within_the_project_leads_somewhere(page):
    for target in _LINK.findall(page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_file_of_another_project_is_linked_at_a_commit_and_a_named_link_is_defined_and_used(page):
    text = page.read_text()
    for reference in re.findall(r"github\.com/[\w.-]+/[\w.-]+/(?:blob|tree)/([^/]+)/", text):
        assert re.fullmatch("[0-9a-f]{40}", reference), reference
    defined = re.findall(r"^\[(\w+)\]: ", text, re.M)
    assert sorted(defined) == sorted(set(re.findall(r"\]\[(\w+)\]", text)))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_path_between_backticks_exists(page):
    for code in _CODE.findall(page.read_text()):
        if re.match(r"(components|pipelines|tests|docs|docker|infra)/[\w./-]*$", code):
            assert (ROOT / code).exists(), code


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_setting_between_backticks_exists(page):
    for code in _CODE.findall(page.read_text()):
        if match := re.match(r"(?:--set )?'?([a-z]+)\.([a-z0-9_]+)(?=$|[=.: ])", code):
            section, key = match.groups()
            is_file = code.rpartition(".")[2] in ENDINGS
            assert is_file or section not in KEYS or key in KEYS[section], code


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_of_wikigpt_exists_with_its_options(page):
    for words in commands(page.read_text(), "wikigpt"):
        parse(words)
    for words in mentioned(page.read_text(), "wikigpt"):
        try:
            parse(words)
        except typer.BadParameter:
            assert len(words) <= 3, words  # only the name of the command; the text omits its arguments


def test_every_sentence_about_a_fault_of_the_store_is_one_that_the_code_says():
    faults = re.findall(r"^\| [^|]+ \| `([^`]+)`[^|]* \| \d \|$", section("storage.md", "Faults"), re.M)
    code = "".join(path.read_text() for path in (ROOT / "components/shared").rglob("*.py"))
    assert len(faults) == 10
    assert [sentence for sentence in faults if sentence not in code] == []


def test_the_modules_of_each_reuse_key_are_those_that_count():
    shown = re.findall(r"^\| (\w+) \| `(components/\w+)` except ([^|;]+); ([^|]+) \|$", text_of("reuse.md"), re.M)
    assert [result for result, *_ in shown] == ["tokens", "model", "evaluation", "validation"]
    for result, step, left_out, shared in shown:
        result = "weights" if result == "model" else result
        assert SOURCES[result] == (step, *(f"components/{name}.py" for name in _CODE.findall(shared)))
        assert EXCLUDED_MODULES[result] == set(_CODE.findall(left_out))


@pytest.mark.parametrize(
    ("title", "most", "column"),
    [
        ("The path of a token", 8, 0),
        ("The path of a setting", 4, 0),
        ("The path of a skip", 5, 0),
        ("Where to add something", 4, 1),
    ],
)
def test_the_architecture_names_files_and_definitions_that_exist(title, most, column):
    found = rows(title)
    assert 3 < len(found) <= most
    for cells in found:
        (path,) = re.match(r"\[`([^`]+)`\]", cells[column]).groups()
        wanted = set(_CODE.findall(cells[column + 1]))
        assert wanted and wanted <= definitions(ROOT / path), cells


def test_the_places_to_change_besides_define_the_names_that_the_architecture_gives():
    for *_, also in (cells[1:] for cells in rows("Where to add something")):
        paths = re.findall(r"\[`([^`]+)`\]", also)
        defined = {name for path in paths for name in definitions(ROOT / path)}
        names = {code for code in _CODE.findall(also) if re.fullmatch(r"\w+(\.[a-z]\w+)?", code) and code != "texts.py"}
        assert names and names - {"COMPILED_PIPELINE_SPEC_PATCH"} <= defined, also


def test_the_architecture_shows_the_levels_that_the_house_rules_enforce():
    shown = [set(_CODE.findall(cells[0])) for cells in rows("The levels")]
    assert shown == list(reversed(LEVELS))


def test_the_picture_shows_the_files_of_the_walk():
    picture = (ROOT / "docs/images/architecture.svg").read_text()
    shown = re.findall(r'class="name"[^>]*>([^<]+\.\w+)<', picture)
    cells = [row[0] for name in ("token", "setting", "skip") for row in rows(f"The path of a {name}")]
    walk = [re.match(r"\[`([^`]+)`\]", cell)[1] for cell in cells]
    assert all(path.endswith(f"/{name}") for path, name in zip(walk, shown, strict=True)), (walk, shown)


def test_the_glossary_has_few_words_with_one_sentence_each():
    _, *table = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", (ROOT / "docs/glossary.md").read_text(), re.M)
    words = [word for word, _ in table]
    assert 30 <= len(words) <= 36 and words == sorted(words, key=str.lower)
    for word, meaning in table:
        assert re.match(rf"(An? |The )?{word} ", meaning, re.I), word
        assert re.findall(r"\.(?= |$)", meaning) == ["."], meaning
