"""The front matter of an exported card is what the Hugging Face Hub reads."""

from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from components.shared.tracking import registry
from components.shared.tracking.sqlite_registry import LocalVersion
from pipelines.registry.export import export
from pipelines.registry.front_matter import front_matter
from pipelines.registry.references import resolve

SCORES = {
    registry.score_tag(split, measure): str(value)
    for split, values in {"validation": (40.5, 30.25, 1.5), "test": (41.5, 31.25, 1.25)}.items()
    for measure, value in zip(registry.MEASURES, values, strict=True)
}


def card_of(text: str) -> Any:
    """The card as the library of the Hub reads it."""
    from huggingface_hub import ModelCard

    return ModelCard(text, ignore_metadata_errors=False).data


def version(**tags: str) -> LocalVersion:
    return LocalVersion("wikigpt", "7", 0, "", "", "", {**SCORES, **tags}, "")


def test_the_hub_reads_the_scores_with_their_data_set() -> None:
    tags = {registry.CORPUS: "wikitext-2-raw-v1", registry.LICENCE: "CC BY-SA 3.0"}
    tags[registry.BASE_MODEL] = "openai-community/gpt2"
    data = card_of(front_matter(version(**tags)))
    assert (data.license, data.language, data.datasets) == ("cc-by-sa-3.0", ["en"], ["Salesforce/wikitext"])
    assert (data.library_name, data.pipeline_tag, data.base_model) == (
        "transformers",
        "text-generation",
        "openai-community/gpt2",
    )
    found = {(each.dataset_split, each.metric_name): each.metric_value for each in data.eval_results}
    assert found == {
        ("validation", "Perplexity per word"): 40.5,
        ("validation", "Perplexity per token"): 30.25,
        ("validation", "Bits per byte"): 1.5,
        ("test", "Perplexity per word"): 41.5,
        ("test", "Perplexity per token"): 31.25,
        ("test", "Bits per byte"): 1.25,
    }
    assert {(each.task_type, each.dataset_type, each.dataset_config) for each in data.eval_results} == {
        ("text-generation", "Salesforce/wikitext", "wikitext-2-raw-v1")
    }


@pytest.mark.parametrize(
    ("source", "datasets"),
    [("hf://ada/poems", ["ada/poems"]), ("hf://ada/poems/en", ["ada/poems"]), ("/home/ada/poems", None)],
)
def test_another_corpus_has_no_language_and_a_licence_by_its_name(source: str, datasets: list[str] | None) -> None:
    tags = {registry.CORPUS: "poems: and more", registry.CORPUS_SOURCE: source, registry.LICENCE: "Open Poetry 1"}
    data = card_of(front_matter(version(**tags)))
    assert (data.license, data.license_name, data.language) == ("other", "Open Poetry 1", None)
    assert data.datasets == datasets
    assert data.eval_results[0].dataset_name == "poems: and more"


def test_a_version_without_numbers_has_no_results() -> None:
    data = card_of(front_matter(LocalVersion("wikigpt", "7", 0, "", "", "", {"wikigpt.test.bits_per_byte": "nan"}, "")))
    assert data.eval_results is None


def test_the_exported_card_has_it(filled: MlflowClient, tmp_path: Path) -> None:
    found = resolve(filled, "champion")
    data = card_of((export(filled, found, tmp_path / "out") / "README.md").read_text())
    scores = {each.dataset_split: each.metric_value for each in data.eval_results if each.metric_type == "perplexity"}
    assert scores.keys() == {"validation", "test"}
    assert data.license == "cc-by-sa-3.0"
