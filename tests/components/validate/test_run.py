"""The step: its outputs, when it stops a run, what it reuses, and what it compares with."""

import json
import re
from dataclasses import asdict

import pytest

from components.shared.base.failure import ExitCode, Failure
from components.shared.runtime.step import Step
from components.shared.storage.files import file_fact
from components.shared.storage.manifest import digest_of, read_manifest, write_manifest
from components.validate.results import Validation
from components.validate.run import run
from components.validate.settings import ValidateSettings
from tests.components.validate.conftest import crown
from tests.components.validate.texts import FACTS, LETTERS, article, good, write

# The distributions of so short texts differ by chance.
LOOSE = {"warn_word_divergence": 0.4}


class Run:
    """One run of the step on a corpus, in its own folders."""

    def __init__(self, folder, texts, name, **settings):
        self.corpus = write(folder / name / "corpus", texts)
        splits = {split: file_fact(self.corpus / f"{split}.txt").sha256 for split in texts}
        self.digest = digest_of(splits)
        write_manifest(self.corpus, "corpus", FACTS | {"dataset_digest": self.digest})
        self.results, self.report = folder / name / "results", folder / name / "outputs" / "report"
        self.step = Step("validate", name, {"validate": asdict(ValidateSettings()) | settings})

    def __call__(self):
        run(self.step, self.corpus, self.results, self.report)
        return self

    @property
    def validation(self):
        return Validation.from_json((self.results / "results.json").read_bytes())

    def logged(self):
        tracking = self.step.tracking
        return {each.path for each in tracking.client.list_artifacts(tracking.run_id, "validation")}


def events(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"event"')]


def test_a_good_corpus_gives_results_and_a_report_and_is_not_validated_again(step_environment, tmp_path, capsys):
    first = Run(tmp_path, good(), "first")()
    manifest = read_manifest(first.results, "validation")
    assert set(manifest.files) == {"results.json", "report.html"}
    assert manifest.metadata == {"dataset_digest": first.digest, "passed": True}
    assert first.report.read_bytes() == (first.results / "report.html").read_bytes()
    assert first.logged() == {"validation/results.json", "validation/report.html"}
    assert first.step.store.names("validation", first.digest)[0] == first.digest
    assert [event["event"] for event in events(capsys)] == ["validated"]
    again = Run(tmp_path, good(), "second")()
    assert [event["event"] for event in events(capsys)] == ["reused", "validated"]
    assert again.report.read_bytes() == first.report.read_bytes()
    assert again.logged() == {"validation/results.json", "validation/report.html"}
    other = Run(tmp_path, good(), "third", max_article_words=100)()
    assert_warned(other, events(capsys))


def assert_warned(warned, told):
    """Other limits give another validation, and a warning does not stop the run."""
    assert "reused" not in [event["event"] for event in told]
    notes = [event["text"] for event in told if event["event"] == "note"]
    assert len(notes) == 3
    assert notes[0].startswith("warning: 'no endless article' failed in train: saw 16")
    assert {each.severity for each in warned.validation.warnings} == {"warning"}
    assert warned.validation.settings["max_article_words"] == 100
    assert "passed with warnings" in warned.report.read_text()
    for row in json.loads((warned.results / "results.json").read_text())["expectations"]:
        assert row["split"] in ("train", "validation", "test")
        assert row["severity"] in ("error", "warning")
        assert row["success"] is not (row["name"] == "no endless article")
        assert isinstance(row["observed"], float | int)
        assert row["seen"] and row["wanted"] and row["expectation"].startswith("Expect")


def test_a_test_split_copied_into_train_stops_the_run_and_leaves_the_report(step_environment, tmp_path):
    texts = good()
    leaky = Run(tmp_path, texts | {"train": texts["train"] + texts["test"]}, "leaky")
    with pytest.raises(Failure) as caught:
        leaky()
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "'no article in two splits' failed in test: saw 3 of 3 articles ('Title 200'" in sentence
    assert "wanted none (and 2 more)" in sentence
    assert re.search(r"the report runs:/\w{32}/validation/report\.html in MLflow", sentence)
    assert caught.value.exit_code == ExitCode.FAILED
    assert "failed: the run does not train on it" in leaky.report.read_text()
    assert leaky.logged() == {"validation/results.json", "validation/report.html"}
    assert {each.name for each in leaky.validation.errors} >= {"no article in two splits", "few lines in two splits"}
    with pytest.raises(Failure, match="no article in two splits"):
        Run(tmp_path, texts | {"train": texts["train"] + texts["test"]}, "leaky again")()


def test_an_empty_split_stops_the_run(step_environment, tmp_path):
    empty = Run(tmp_path, good() | {"test": ""}, "empty")
    with pytest.raises(Failure, match=r"'enough words' failed in test: saw 0 words, wanted at least 100 words"):
        empty()
    assert "enough words" in empty.report.read_text()


def test_a_damaged_corpus_is_refused(step_environment, tmp_path):
    damaged = Run(tmp_path, good(), "damaged")
    (damaged.corpus / "test.txt").write_text("other text")
    with pytest.raises(Failure, match="differs from what the manifest says"):
        damaged()


@pytest.mark.slow
def test_a_corpus_is_compared_with_that_of_the_champion(step_environment, tmp_path):
    first = Run(tmp_path, good(), "first", **LOOSE)()
    crown(first.step.tracking.client, FACTS["model_name"], first.digest)
    longer = good() | {"train": "".join(article(seed) for seed in range(20, 36))}
    grown = Run(tmp_path, longer, "grown", **LOOSE)()
    assert grown.validation.champion == {"version": "1", "dataset_digest": first.digest}
    assert [each.name for each in grown.validation.warnings] == ["size in words like the champion's corpus"]
    assert "Against the champion" in grown.report.read_text()
    foreign = str.maketrans(LETTERS, "klmnopqrst")
    other = Run(tmp_path, {split: text.translate(foreign) for split, text in good().items()}, "other", **LOOSE)
    with pytest.raises(Failure, match=r"'the language of the champion's corpus' failed in train: saw .* bits"):
        other()
