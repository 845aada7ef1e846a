"""A version is exported as a folder, and generates text."""

import errno
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.shared.base.failure import ExitCode, Failure
from pipelines.registry.export import export
from pipelines.registry.generation import load_writer, write
from pipelines.registry.references import resolve
from tests.registry import make_folders, make_model, make_step, register


def test_an_exported_folder_is_what_transformers_reads_with_equal_weights(
    filled: MlflowClient, hugging_face_folder: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = export(filled, resolve(filled, "champion"), tmp_path / "out" / "champion")

    ours = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    theirs = AutoModelForCausalLM.from_pretrained(hugging_face_folder).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert AutoTokenizer.from_pretrained(folder)("castle").input_ids == (
        AutoTokenizer.from_pretrained(hugging_face_folder)("castle").input_ids
    )
    assert "\n---\n\n# wikigpt-sample version 1" in (folder / "README.md").read_text()
    assert [path.name for path in folder.parent.iterdir()] == ["champion"]
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in folder.iterdir()), "a server reads it as another user"


def test_a_qwen3_is_exported_too(client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    model = make_model(tmp_path / "qwen3", "qwen3")
    register(make_step("run-1"), make_folders(tmp_path / "a", model, reuse_key="1" * 32))
    version = resolve(client, "champion")
    assert '"Qwen3ForCausalLM"' in (export(client, version, tmp_path / "out") / "config.json").read_text()
    assert write(load_writer(client, version), "The castle", max_new_tokens=5).startswith("The castle")


def test_a_folder_that_is_not_empty_is_left_unchanged(filled: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(Failure, match="The folder is not empty") as raised:
        export(filled, resolve(filled, "champion"), tmp_path / "out")
    assert raised.value.exit_code == ExitCode.USAGE
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_an_empty_folder_is_filled_in_its_place(
    filled: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The working folder of a shell, in `wikigpt export champion .`"""
    (tmp_path / "out").mkdir()
    before = (tmp_path / "out").stat().st_ino
    monkeypatch.chdir(tmp_path / "out")
    assert export(filled, resolve(filled, "champion"), Path()) == tmp_path / "out"
    assert Path.cwd().stat().st_ino == before
    names = {path.name for path in Path.cwd().iterdir()}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json", "README.md"}
    assert not [name for name in names if name.startswith(".")]


def test_what_a_new_disk_and_a_killed_export_leave_is_no_content(filled: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / ".wikigpt-export.abcd.part" / "plain").mkdir(parents=True)
    folder = tmp_path / "disk"
    folder.mkdir()
    for left in ("lost+found", ".wikigpt-export.abcd.part"):
        (tmp_path / left).rename(folder / left)
    export(filled, resolve(filled, "champion"), folder)
    assert (folder / "config.json").is_file()
    assert not (folder / ".wikigpt-export.abcd.part").exists()


def test_an_export_that_breaks_off_leaves_the_folder_empty(
    filled: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if self.name == "config.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(Failure, match=r"No space left on device .*free some space"):
        export(filled, resolve(filled, "champion"), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("target", "sentence"),
    [("file", "This is a file"), ("file/out", "Not a directory"), ("loop", "loop of symbolic links")],
)
def test_where_no_folder_can_be_is_said(filled: MlflowClient, tmp_path: Path, target: str, sentence: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(Failure, match=sentence) as raised:
        export(filled, resolve(filled, "champion"), tmp_path / target)
    assert raised.value.exit_code == ExitCode.USAGE
    assert "free some space" not in str(raised.value)


def test_a_version_without_tokenizer_leaves_nothing(filled: MlflowClient, tmp_path: Path) -> None:
    """A model was logged without its tokenizer: the folder has only a configuration."""
    (tmp_path / "logged" / "model").mkdir(parents=True)
    (tmp_path / "logged" / "model" / "config.json").write_text("{}")
    (tmp_path / "logged" / "MLmodel").write_text("flavors: {}\n")
    filled.create_registered_model("theirs")
    filled.create_model_version("theirs", str(tmp_path / "logged"))
    with pytest.raises(Failure, match=r"has no tokenizer: there is no tokenizer\.json \(models:/theirs/1\)"):
        export(filled, resolve(filled, "1", "theirs"), tmp_path / "out" / "theirs")
    assert list((tmp_path / "out").iterdir()) == []


def test_text_is_repeatable_and_continues_the_prompt(filled: MlflowClient) -> None:
    writer = load_writer(filled, resolve(filled, "champion"))
    first, again, other = (write(writer, "The castle", max_new_tokens=20, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert first.startswith("The castle")
    assert len(write(writer, "The castle " * 100, max_new_tokens=5)) > len("The castle " * 100)
    greedy = {write(writer, "The castle", max_new_tokens=8, temperature=0, seed=seed) for seed in (1, 2)}
    assert len(greedy) == 1


@pytest.mark.parametrize(
    ("prompt", "tokens", "sentence"),
    [
        ("The castle", 64, "--tokens must be at most 63 with this model, got 64; the nearest is 63"),
        (" ", 5, "The prompt is empty"),
    ],
)
def test_what_cannot_be_written_is_said(filled: MlflowClient, prompt: str, tokens: int, sentence: str) -> None:
    with pytest.raises(Failure, match=sentence):
        write(load_writer(filled, resolve(filled, "champion")), prompt, max_new_tokens=tokens)
