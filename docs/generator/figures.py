"""The figures of the pages, from the records of benchmarks: `make figures` writes them again.

A page has blocks, each with the values of a record and a line about their origin, or the values alone:

    <!-- figures: train_speed -->
    <!-- end -->
    <!-- figures: run_quick; values -->
    <!-- end -->

The block of `all` has every record, and that of `trials` a table of some trials, or of all of a profile:

    <!-- figures: trials; beta2; profile=cpu tokens=2048000 -->
    <!-- end -->
    <!-- figures: trials; cpu -->
    <!-- end -->

The block of `experiment` has the trials of a sweep, with the spread over seeds:

    <!-- figures: experiment; quick-dropout -->
    <!-- end -->

A single figure within a sentence names the record, the keys to its value, where `total` is the sum of numbers, and its
format: <!-- figure: run_quick; seconds; total; .0f -->169<!-- end -->. It does not begin a line, because Markdown takes
a comment there for a block.
"""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from components.shared.storage.files import write_atomically
from docs.generator.experiments import experiment_table
from docs.generator.markdown import code, table
from docs.generator.records import Record, load, names
from docs.generator.trials import every_trial_table, trials_table
from pipelines.cli.screen import console
from pipelines.local.summary import print_summary

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^(<!-- figures: ([^>]+) -->)\n.*?^(<!-- end -->)$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(<!-- figure: ((?:(?!-->).)+) -->).*?(<!-- end -->)")
_WIDTH = 80  # of a terminal
# Words of the names of values that are no English words.
_WORDS = {"gflops": "GFLOP/s", "mb": "MB", "mfu": "MFU"}


def pages() -> list[Path]:
    """The pages that people write, which may have figures."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def with_figures(page: Path) -> str:
    """The text of a page with the figures of the records.

    Raises:
        ValueError: the page names a record or a value that does not exist.
    """

    def block(match: re.Match[str]) -> str:
        return f"{match[1]}\n\n{_block(match[2].split('; '), page).strip()}\n\n{match[3]}"

    def figure(match: re.Match[str]) -> str:
        return f"{match[1]}{_figure(match[2].split('; '))}{match[3]}"

    return _INLINE.sub(figure, _BLOCK.sub(block, page.read_text(encoding="utf-8")))


def _block(words: list[str], page: Path) -> str:
    name, *options = words
    if name == "all":
        shown = [f"## {load(each).title}\n\n{_block([each, 'brief'], page).strip()}" for each in names()]
        return "\n\n".join(shown)
    if name == "experiment":
        return experiment_table(*options)
    if name == "trials":
        return trials_table(*options) if len(options) == 2 else every_trial_table(*options)
    record = load(name)
    renderer = _RENDERERS.get(record.benchmark, _tables)
    if options == ["brief"] and renderer is _transcript:
        values = _tables({"seconds": record.values["seconds"]})
    else:
        values = renderer(record.values)
    return values if options == ["values"] else f"{values.rstrip()}\n\n{_origin(name, record, page)}"


def _figure(words: list[str]) -> str:
    name, *keys, form = words
    value: Any = load(name).values
    for key in keys:
        if key == "total" and key not in value:
            value = sum(value.values())
        elif key in value:
            value = value[key]
        else:
            raise ValueError(f"the record {name} has no value at {' > '.join(keys)}")
    return format(value, form)


def _origin(name: str, record: Record, page: Path) -> str:
    """The sentence that says how the values came about, with a link to the record."""
    link = posixpath.relpath(f"docs/benchmarks/{name}.json", page.parent.relative_to(ROOT).as_posix())
    parts = [record.date, f"commit {record.commit[:10]}" if record.commit else "", _machine(record.machine)]
    parts.append(", ".join(f"{package} {version}" for package, version in record.versions.items()))
    command = f"{code(record.command)}: " if record.command else ""
    remark = f" {record.remark}" if record.remark else ""
    return f"{command}{'; '.join(part for part in parts if part)} ([record]({link})).{remark}"


def _machine(machine: dict[str, Any]) -> str:
    if not machine:
        return ""
    instructions = f" ({', '.join(machine['instructions'])})" if machine.get("instructions") else ""
    where = [f"{machine['cpu']}{instructions}", f"{machine['cores']} cores"]
    if gpu := machine.get("gpu"):
        where.append(gpu)
    if "load" in machine:
        where.append(f"load {machine['load']} at the start")
    return ", ".join(where)


def _summary(values: dict[str, Any]) -> str:
    """The summary that `wikigpt run` printed, by its own function."""
    screen = console()
    screen.file, screen.width = io.StringIO(), _WIDTH
    print_summary(values, screen, model_option=False)
    lines = (line.rstrip() for line in screen.file.getvalue().splitlines())
    return "```text\n" + "\n".join(lines) + "\n```"


def _transcript(values: dict[str, Any]) -> str:
    """The lines that were typed in a container, with what they printed and after how many seconds."""
    rows = [
        [code(line["command"]), _number(line["seconds"]), _number(line["first_loss"] or ""), str(line["exit_code"])]
        for line in values["lines"]
    ]
    parts = [table(("line", "seconds", "first loss after", "exit code"), rows)]
    for line in values["lines"]:
        printed = (f"{moment:8.1f}  {text}".rstrip() for moment, text in line["output"])
        parts.append("\n".join(["```text", f"$ {line['command']}", *printed, "```\n"]))
    return "\n".join(parts) + f"\nThe container: {values['container']}.\n"


def _tables(values: dict[str, Any]) -> str:
    """Single values as one table, and values by the same keys side by side in another."""
    single = [[_words(name), _number(value)] for name, value in values.items() if not isinstance(value, dict | list)]
    parts = [table(("", "value"), single)] if single else []
    for columns in _columns(values):
        keys = dict.fromkeys(key for column in columns.values() for key in column)
        rows = [[key, *(_number(column[key]) for column in columns.values())] for key in keys]
        parts.append(table(("", *map(_words, columns)), rows))
    for name, value in values.items():
        if isinstance(value, dict) and _is_nested(value):
            value = [{"": row, **cells} for row, cells in value.items()]
        if isinstance(value, list):
            heads = dict.fromkeys(key for each in value for key in each)
            cells = [[_number(each.get(head, "")) for head in heads] for each in value]
            parts.append(f"{_words(name)}:\n\n{table([*map(_words, heads)], cells)}")
    return "\n".join(parts)


def _columns(values: dict[str, Any]) -> Iterator[dict[str, dict[str, Any]]]:
    """The flat dictionaries among some values, those with the same keys together."""
    by_keys: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for name, value in values.items():
        if isinstance(value, dict) and not _is_nested(value):
            by_keys.setdefault(tuple(value), {})[name] = value
    yield from by_keys.values()


def _is_nested(value: dict[str, Any]) -> bool:
    return any(isinstance(each, dict) for each in value.values())


def _words(name: str) -> str:
    return " ".join(_WORDS.get(word, word) for word in name.split("_"))


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.5g}"


_RENDERERS: dict[str, Callable[[dict[str, Any]], str]] = {"first_minute": _transcript, "run_profile": _summary}


def main() -> None:
    """Writes the figures into all pages, and names the pages that changed."""
    for page in pages():
        text = with_figures(page)
        if text != page.read_text(encoding="utf-8"):
            write_atomically(page, text)
            print(page.relative_to(ROOT).as_posix())


if __name__ == "__main__":
    main()
