"""Reads text from a column of Parquet files, JSON Lines files and data sets of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from components.shared.base.failure import Failure, first_line
from components.shared.storage.files import disk_failure
from components.shared.text.articles import SPLIT_FILE, SPLITS

_FORMATS = {".parquet": "parquet", ".jsonl": "json"}
_KINDS = {type(None): "nothing", dict: "an object", list: "a list", bool: "true or false", int: "a number"}
TABLE_FILE = [{split: f"{split}{ending}" for split in SPLITS} for ending in _FORMATS]


def text_files(files: dict[str, Path], column: str, where: str) -> dict[str, Path]:
    """Writes the rows of Parquet and JSON Lines files to text files in the same folder. Text files stay as they are.

    Args:
        files: the file of each split, all in one format.
        column: the name of the column with the text.
        where: the address of the corpus, for messages.

    Raises:
        Failure: a file is damaged, or the column is missing or contains other values than text.
    """
    [suffix] = {path.suffix for path in files.values()}
    if suffix not in _FORMATS:
        return files
    folder = files[SPLITS[0]].parent
    # The splits are loaded one by one, because `datasets` would convert the later ones to the types of the first.
    tables = {
        split: _load(folder, where, _FORMATS[suffix], data_files=str(path), split="train")
        for split, path in files.items()
    }
    return write_rows(tables, column, folder, where)


def data_set_files(snapshot: Path, column: str, folder: Path, where: str) -> dict[str, Path]:
    """Writes the splits of a downloaded data set to text files.

    Args:
        snapshot: the folder of the data set, as on the Hub.
        column: the name of the column with the text.
        folder: the output folder.
        where: the address of the data set, for messages.

    Raises:
        Failure: the data set cannot be read or lacks a split, or the column is missing or contains other
            values than text.
    """
    return write_rows(_load(folder, where, str(snapshot)), column, folder, where)


def write_rows(tables: Mapping[str, Any], column: str, folder: Path, where: str) -> dict[str, Path]:
    """Writes the rows of each split to a text file; a row that does not end in a newline gets one."""
    if missing := [split for split in SPLITS if split not in tables]:
        raise Failure(
            f"The data set has no split {' and no split '.join(missing)}: its splits are {', '.join(tables)}",
            where=where,
            remedy="give --corpus a data set with the splits train, validation and test",
        )
    files = {split: folder / SPLIT_FILE[split] for split in SPLITS}
    for split, path in files.items():
        table = tables[split]
        if column not in table.column_names:
            raise Failure(
                f"The {split} split has no column {column!r}: its columns are {', '.join(table.column_names)}",
                where=where,
                remedy="set download.text_column to the column that holds the text",
            )
        try:
            with open(path, "w", encoding="utf-8", newline="") as stream:
                stream.writelines(_lines(table[column], split, column, where))
        except OSError as error:
            raise disk_failure(error, path) from error
    return files


def _lines(rows: Iterable[Any], split: str, column: str, where: str) -> Iterable[str]:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, str):
            raise Failure(
                f"The column {column!r} of the {split} split holds {_KINDS.get(type(row), type(row).__name__)} and not"
                f" text in row {number:,}",
                where=where,
                remedy="set download.text_column to a column of plain text, without nested or missing values",
            )
        yield row if row.endswith("\n") else row + "\n"


def _load(folder: Path, where: str, path: str, **options: Any) -> Any:
    """Loads a table, or all tables by split, with `datasets`, whose cache is in a temporary folder."""
    import datasets

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(path, cache_dir=str(folder / "datasets"), **options)
    except Exception as error:
        if "Config name is missing" in str(error):
            what = "The data set has more than one configuration, and a corpus has one"
            remedy = "save the splits of one configuration as Parquet files, and give --corpus their folder"
        else:
            what, remedy = f"The data set cannot be read: {_reason(error)}", "give --corpus Parquet or JSON Lines files"
        raise Failure(what, where=where, remedy=remedy) from error


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error, type(error).__name__)[:200]
