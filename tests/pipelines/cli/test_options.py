"""The effect of options of the command on the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.shared.base.failure import ExitCode, Failure
from pipelines.cli.options import settings_of


@pytest.mark.parametrize("begins", ["./", "../here/"])
def test_folders_are_made_absolute_wherever_they_are_named(
    begins: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    named = {"download.corpus": "corpus", "train.pretrained": "weights", "tokenize.tokenizer": "tokenizer"}
    settings = settings_of("quick", [f"{key}={begins}{name}" for key, name in named.items()], None)
    found = [settings.download.corpus, settings.train.pretrained, settings.tokenize.tokenizer]
    assert found == [str(tmp_path / "here" / name) for name in named.values()]


def test_names_and_addresses_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2").mkdir()
    overrides = ["tokenize.tokenizer=gpt2", "train.pretrained=s3://bucket/weights"]
    settings = settings_of("quick", overrides, "s3://bucket/corpus")
    found = [settings.download.corpus, settings.train.pretrained, settings.tokenize.tokenizer]
    assert found == ["s3://bucket/corpus", "s3://bucket/weights", "gpt2"]


@pytest.mark.parametrize(("word", "nearest"), [("wikitext-2", "wikitext-2-v1"), ("smaple", "sample"), ("mine", "")])
def test_a_word_that_is_no_corpus_is_not_taken_for_a_folder(word: str, nearest: str) -> None:
    with pytest.raises(Failure, match=f"There is no corpus '{word}', and no folder of that name") as failure:
        settings_of("quick", None, word)
    assert failure.value.exit_code == ExitCode.USAGE
    assert ("did you mean" in failure.value.remedy) == bool(nearest)
    assert nearest in failure.value.remedy


def test_an_option_outranks_the_setting(tmp_path: Path) -> None:
    assert settings_of("quick", ["download.corpus=sample"], str(tmp_path)).download.corpus == str(tmp_path)
