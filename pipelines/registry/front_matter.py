"""The front matter of an exported card: the metadata that the Hugging Face Hub reads from README.md.

The Hub shows the scores of its `model-index` beside the model. The keys are those of `huggingface_hub.ModelCardData`,
by which a test reads them; writing them here needs no import of that library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from components.download.corpora import KNOWN
from components.shared.base.address import is_repository
from components.shared.report.measures import finite
from components.shared.text.articles import HELD_OUT
from components.shared.tracking import registry

if TYPE_CHECKING:
    from components.shared.tracking.sqlite_registry import AnyVersion

_TASK = {"type": "text-generation", "name": "Text Generation"}
_WIKITEXT = "Salesforce/wikitext"
_MEASURES = {
    "word_perplexity": ("perplexity", "Perplexity per word"),
    "token_perplexity": ("perplexity", "Perplexity per token"),
    "bits_per_byte": ("bits_per_byte", "Bits per byte"),
}
# The Hub's names of licences; for any other one it asks for the key `license_name`.
_LICENCES = {
    "Apache-2.0": "apache-2.0",
    "CC BY-SA 3.0": "cc-by-sa-3.0",
    "CC BY-SA 4.0": "cc-by-sa-4.0",
    "CC0 1.0": "cc0-1.0",
    "MIT": "mit",
}


def front_matter(version: AnyVersion) -> str:
    """The YAML between `---` at the beginning of the card. What the tags of the version do not say is left out."""
    import yaml

    tags = version.tags
    corpus, source = tags.get(registry.CORPUS, ""), tags.get(registry.CORPUS_SOURCE, "")
    hub = _WIKITEXT if corpus in KNOWN else _repository(source)
    data: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    data["tags"] = ["wikigpt", "causal-lm"]
    if corpus in KNOWN:
        data["language"] = ["en"]
    data |= _licence(tags.get(registry.LICENCE, ""))
    if hub:
        data["datasets"] = [hub]
    if base := tags.get(registry.BASE_MODEL):
        data["base_model"] = base
    if results := _results(tags, corpus, hub):
        data["model-index"] = [{"name": f"{version.name}-{version.version}", "results": results}]
    return f"---\n{yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)}---\n\n"


def _repository(source: str) -> str | None:
    """The data set on the Hub that an address names, or None."""
    name = "/".join(source.removeprefix("hf://").split("/")[:2])
    return name if source.startswith("hf://") and is_repository(name) else None


def _licence(licence: str) -> dict[str, str]:
    if not licence or licence == "not stated":
        return {}
    known = _LICENCES.get(licence)
    return {"license": known} if known else {"license": "other", "license_name": licence}


def _results(tags: dict[str, str], corpus: str, hub: str | None) -> list[dict[str, Any]]:
    """The scores by the protocol of the gate, one result for each held-out split."""
    results = []
    for split in HELD_OUT:
        metrics = [
            {"type": kind, "name": name, "value": value}
            for measure, (kind, name) in _MEASURES.items()
            if (value := finite(tags.get(registry.score_tag(split, measure)))) is not None
        ]
        # The Hub requires a type; for a text that is not on the Hub it is the name.
        dataset = {"type": hub or corpus or "unknown", "name": corpus or "unknown", "split": split}
        if corpus in KNOWN:
            dataset["config"] = corpus
        if metrics:
            results.append({"task": _TASK.copy(), "dataset": dataset, "metrics": metrics})
    return results
