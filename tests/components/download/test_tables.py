"""Text in tables: folders of Parquet and JSON Lines files, and data sets of the Hub; only the download is replaced."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.download.fetch import fetch_corpus
from components.download.naming import name_from
from components.download.settings import DownloadSettings
from components.shared.base.failure import Failure

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROWS = {
    "train": ["The river runs to the sea .", "It is long .\nIt is wide .\n"],
    "validation": ["The hill stands by the road ."],
    "test": ["Ein Vogel singt, 語 ."],
}


def write(folder: Path, ending: str, rows: dict[str, list[Any]] = ROWS, column: str = "text") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, texts in rows.items():
        if ending == "parquet":
            pq.write_table(pa.table({"id": list(range(len(texts))), column: texts}), folder / f"{split}.parquet")
        else:
            lines = [json.dumps({"id": number, column: text}) + "\n" for number, text in enumerate(texts)]
            (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_rows_of_a_table_become_lines(tmp_path, store, ending):
    folder = write(tmp_path / "harbour", ending, column="body")
    settings = DownloadSettings(corpus=str(folder), text_column="body")
    manifest = fetch_corpus(settings, tmp_path / "out", store)
    assert (tmp_path / "out" / "train.txt").read_text() == "The river runs to the sea .\nIt is long .\nIt is wide .\n"
    assert (tmp_path / "out" / "test.txt").read_text() == "Ein Vogel singt, 語 .\n"
    assert manifest.metadata["model_name"] == "wikigpt-harbour"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "manifest.json", "test.txt", "train.txt", "validation.txt",
    ]  # fmt: skip


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
@pytest.mark.parametrize(
    ("rows", "column", "sentence"),
    [
        (ROWS, "body", "The train split has no column 'text': its columns are id, body"),
        (ROWS | {"test": [["a", "b"]]}, "text", "'text' of the test split holds a list and not text in row 1"),
        (ROWS | {"test": [{"en": "a"}]}, "text", "'text' of the test split holds an object and not text in row 1"),
        (ROWS | {"train": ["a", None]}, "text", "'text' of the train split holds nothing and not text in row 2"),
        (ROWS | {"validation": [7, 8]}, "text", "'text' of the validation split holds a number and not text in row 1"),
    ],
)
def test_a_column_without_text_is_refused_in_one_sentence(tmp_path, store, ending, rows, column, sentence):
    folder = write(tmp_path / "harbour", ending, rows, column)
    with pytest.raises(Failure, match=sentence) as failure:
        fetch_corpus(DownloadSettings(corpus=str(folder)), tmp_path / "out", store)
    assert failure.value.where == str(folder)
    assert "download.text_column" in failure.value.remedy
    assert not (tmp_path / "out").exists()


def test_a_missing_file_and_a_damaged_one_are_refused(tmp_path, store):
    folder = write(tmp_path / "harbour", "parquet")
    (folder / "test.parquet").write_bytes(b"PAR1 no table PAR1")
    with pytest.raises(Failure, match="The data set cannot be read: "):
        fetch_corpus(DownloadSettings(corpus=str(folder)), tmp_path / "out", store)
    (folder / "test.parquet").unlink()
    with pytest.raises(Failure, match=r"lacks a split: there is no test\.parquet"):
        fetch_corpus(DownloadSettings(corpus=str(folder)), tmp_path / "out", store)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the snapshot that the Hub would send."""
    snapshot = tmp_path / "snapshots" / COMMIT

    def download(repository: str, *, repo_type: str, revision: str | None, **options: Any) -> str:
        assert (repository, repo_type, revision) in [("team/harbour", "dataset", each) for each in (None, "v1")]
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setattr("components.download.hub._check_reachable", lambda: None)
    return snapshot


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
@pytest.mark.parametrize("corpus", ["hf://team/harbour", "hf://team/harbour@v1"])
def test_a_data_set_of_the_hub_is_recorded_with_its_commit(tmp_path, store, hub, ending, corpus):
    write(hub / "data", ending)
    metadata = fetch_corpus(DownloadSettings(corpus=corpus), tmp_path / "out", store).metadata
    assert (metadata["source"], metadata["name"]) == (f"hf://team/harbour@{COMMIT}", "harbour")
    assert (tmp_path / "out" / "validation.txt").read_text() == "The hill stands by the road .\n"


def test_a_data_set_without_a_split_or_with_configurations_is_refused(tmp_path, store, hub):
    write(hub, "parquet", {split: ROWS[split] for split in ("train", "test")})
    settings = DownloadSettings(corpus="hf://team/harbour")
    with pytest.raises(Failure, match="has no split validation: its splits are train, test") as failure:
        fetch_corpus(settings, tmp_path / "out", store)
    assert failure.value.where == f"hf://team/harbour@{COMMIT}"
    names = "".join(f"- config_name: {name}\n  data_files: '*.parquet'\n" for name in ("one", "two"))
    (hub / "README.md").write_text(f"---\nconfigs:\n{names}---\n")
    with pytest.raises(Failure, match="has more than one configuration, and a corpus has one"):
        fetch_corpus(settings, tmp_path / "out", store)


def test_a_hub_that_cannot_be_reached_is_one_sentence(tmp_path, store, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    with pytest.raises(Failure, match="The data set team/harbour cannot be downloaded from the Hub") as failure:
        fetch_corpus(DownloadSettings(corpus="hf://team/harbour"), tmp_path / "out", store)
    assert failure.value.where == "hf://team/harbour"


@pytest.mark.parametrize(
    "corpus", ["hf://", "hf://harbour", "hf://a/b/c", "hf://a/../b", "hf://team/harbour@", "hf://team/harbour@a@b"]
)
def test_an_address_that_names_no_data_set_is_refused(corpus):
    with pytest.raises(ValueError, match="corpus must"):
        DownloadSettings(corpus=corpus)


def test_models_of_a_data_set_have_its_name_without_the_revision():
    assert name_from("hf://team/Harbour@v1") == "harbour"
