"""The figures of the pages are those of the records."""

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest

from docs.generator import experiments, figures, records, trials
from docs.generator.records import Record
from tests.test_docs import PAGES, ROOT, named

MACHINE = {"cpu": "A CPU", "instructions": ["avx2"], "cores": 2, "load": 0.1}


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page in an empty project, with the records `speed` and `run`."""
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    monkeypatch.setattr(records, "FOLDER", tmp_path / "docs/benchmarks")
    values = {"threads": 2, "rate": {"ours": 5586, "a | b": 41.79}, "share": {"ours": 0.62, "a | b": 0.464}}
    write(tmp_path, "speed", "train_speed", values)
    summary = json.loads((ROOT / "docs/benchmarks/run_quick.json").read_text())["values"]
    write(tmp_path, "run", "run_profile", summary)
    return tmp_path / "docs/page.md"


def write(root: Path, name: str, benchmark: str, values: dict) -> None:
    record = Record(
        benchmark, f"Title of {name}", "python -m x", "2026-11-27 10:00 UTC", "0123456789abcdef", MACHINE,
        {"torch": "2"}, values, "A remark.",
    )  # fmt: skip
    path = root / f"docs/benchmarks/{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(record)))


def shown(page: Path, text: str) -> str:
    page.write_text(text)
    return figures.with_figures(page)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_page_has_the_figures_of_the_records(page):
    assert page.read_text() == figures.with_figures(page), "make figures writes the page again"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_no_line_begins_with_a_figure(page):
    """Markdown would take it for the begin of a block, and end the paragraph."""
    assert not re.findall(r"^ *<!-- figure:.*", page.read_text(), re.M)


@pytest.mark.parametrize("name", records.names())
def test_a_record_is_complete_and_names_no_path_of_its_machine(name):
    record = records.load(name)
    assert record.title and record.values and re.match(r"\d{4}-\d\d", record.date)
    assert record.commit or record.remark
    text = (ROOT / f"docs/benchmarks/{name}.json").read_text()
    text = re.sub("/srv/wiki-gpt.git|/root/wiki-gpt/", "", text)  # paths in the container of first_minute
    assert not re.search(r'["\s=:](/|file:|~/)\w', text)


def test_a_block_has_tables_of_the_values_and_their_origin(page):
    text = shown(page, "Before.\n\n<!-- figures: speed -->\nold\n<!-- end -->\n\nAfter.\n")
    assert text == (
        "Before.\n\n<!-- figures: speed -->\n\n"
        "|  | value |\n| --- | --- |\n| threads | 2 |\n\n"
        "|  | rate | share |\n| --- | --- | --- |\n| ours | 5,586 | 0.62 |\n| a \\| b | 41.79 | 0.464 |\n\n"
        "`python -m x`: 2026-11-27 10:00 UTC; commit 0123456789; A CPU (avx2), 2 cores, load 0.1 at the start; torch 2 "
        "([record](benchmarks/speed.json)). A remark.\n\n<!-- end -->\n\nAfter.\n"
    )
    assert shown(page, text) == text


def test_a_run_is_shown_by_its_own_summary(page):
    text = shown(page, "<!-- figures: run; values -->\n<!-- end -->\n")
    assert re.search(r"```text\nWiki-GPT · \S+ · trained\nCorpus  .*\nSeconds  +[\d.]+ in total: download", text, re.S)
    assert "record" not in text


def test_a_transcript_has_the_seconds_of_each_line(page):
    lines = [
        {
            "command": "make run",
            "exit_code": 0,
            "seconds": 61.5,
            "first_loss": 40.2,
            "output": [[0.1, "a"], [61.0, ""]],
        },
        {"command": "make test", "exit_code": 2, "seconds": 9, "first_loss": None, "output": [[8.9, "12 passed"]]},
    ]
    write(page.parents[1], "minute", "first_minute", {"container": "Debian", "seconds": {"test": 9}, "lines": lines})
    text = shown(page, "<!-- figures: minute -->\n<!-- end -->\n")
    assert "| `make run` | 61.5 | 40.2 | 0 |\n| `make test` | 9 |  | 2 |\n" in text
    assert "```text\n$ make run\n     0.1  a\n    61.0\n```\n\n```text\n$ make test\n     8.9  12 passed\n```\n" in text
    assert "The container: Debian.\n\n`python -m x`" in text
    everything = shown(page, "<!-- figures: all -->\n<!-- end -->\n")
    assert "| test | 9 |" in everything and "$ make" not in everything


def trial(perplexity: float, **changed: object) -> str:
    return json.dumps(
        {"profile": "cpu", "tokens": 9, "changed": changed, "word_perplexity": perplexity, "processor_seconds": 1234}
    )


def test_a_table_of_trials_has_those_that_fulfil_the_conditions(page, monkeypatch):
    monkeypatch.setattr(trials, "FILE", page.parent / "trials.jsonl")
    rows = [trial(167.19), trial(155.84, beta2=0.99), trial(1.0, beta2=0.9, dropout=0.1), trial(152.64, beta2=0.998)]
    trials.FILE.write_text("\n".join(rows))
    text = shown(page, "<!-- figures: trials; beta2; profile=cpu tokens=9 dropout= -->\n<!-- end -->\n")
    head = "| `beta2` | validation word perplexity | processor seconds |\n| --- | --- | --- |\n"
    assert head + "| 0.998 | 152.6 | 1,234 |\n| 0.99 | 155.8 | 1,234 |\n|  | 167.2 | 1,234 |\n" in text
    for wanted in ("dropout; tokens=9", "beta2; tokens=8"):
        with pytest.raises(ValueError, match="do not tell them apart"):
            shown(page, f"<!-- figures: trials; {wanted} -->\n<!-- end -->\n")


def test_a_figure_in_a_sentence_is_a_value_or_a_total(page):
    text = "<!-- figure: speed; rate; ours; ,d -->1<!-- end --> of <!-- figure: speed; rate; total; .0f --><!-- end -->"
    assert re.sub("<!--.*?-->", "", shown(page, text)) == "5,586 of 5628"


def test_all_records_have_a_heading_and_their_origin(page):
    text = shown(page, "<!-- figures: all -->\n<!-- end -->\n")
    assert re.findall("^## (.*)", text, re.M) == ["Title of run", "Title of speed"]
    assert text.count("([record](") == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<!-- figures: gone -->\n<!-- end -->", "there is no record docs/benchmarks/gone.json"),
        ("<!-- figure: speed; rate; theirs; d --><!-- end -->", "the record speed has no value at rate > theirs"),
    ],
)
def test_a_record_or_a_value_that_does_not_exist_is_named(page, text, problem):
    with pytest.raises(ValueError, match=problem):
        shown(page, text)


def test_a_record_without_a_field_is_named(page):
    path = records.FOLDER / "speed.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "comment": ""}))
    with pytest.raises(ValueError, match=r"speed.json lacks or should not have: comment"):
        records.load("speed")


def swept(perplexity: float, command: str = "wikigpt sweep", **varied: object) -> str:
    return json.dumps(
        {
            "date": "2026-11-28",
            "command": command,
            "varied": {f"train.{name}": value for name, value in varied.items()},
            "seconds": 60,
            "word_perplexity": perplexity,
            "numerics": {"precision": "float32"},
            "machine": "A CPU, 2 cores",
        }
    )


def test_a_table_of_an_experiment_has_the_spread_over_seeds(page, monkeypatch):
    monkeypatch.setattr(experiments, "FOLDER", page.parent)
    rows = [swept(100, beta2=0.9, seed=1), swept(104, beta2=0.9, seed=2), swept(90, beta2=0.99, seed=1)]
    (page.parent / "beta2.jsonl").write_text("\n".join(rows))
    text = shown(page, "<!-- figures: experiment; beta2 -->\n<!-- end -->\n")
    assert "| 0.99 | 1 | 90.00 | 90.00 to 90.00 | 60 |\n| 0.9 | 2 | 102.00 | 100.00 to 104.00 | 60 |" in text
    assert "`wikigpt sweep`: 2026-11-28; A CPU, 2 cores, float32." in text
    (page.parent / "beta2.jsonl").write_text("\n".join([*rows, swept(80, "wikigpt sweep --profile cpu")]))
    with pytest.raises(ValueError, match="trials of 2 sweeps, machines or precisions"):
        shown(page, text)
    with pytest.raises(ValueError, match="there is no docs/experiments/other"):
        shown(page, "<!-- figures: experiment; other -->\n<!-- end -->\n")


def test_every_experiment_is_in_the_log():
    log = (ROOT / "docs/log.md").read_text()
    assert all(f"<!-- figures: experiment; {name} -->" in log for name in experiments.names())
