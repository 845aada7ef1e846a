"""Writes the card of a version: the markdown that MLflow shows on the page of the version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from components.register.lineage import TrainedModel
from components.register.promotion import AliasDecision
from components.shared.report.measures import finite, format_measure
from components.shared.text.articles import HELD_OUT
from components.shared.tracking import registry

_NAMES = {
    "word_perplexity": "word perplexity",
    "token_perplexity": "token perplexity",
    "bits_per_byte": "bits per byte",
}
_SAMPLES = 3
_SAMPLE_LENGTH = 400


def card(
    trained: TrainedModel,
    version: str,
    decision: AliasDecision,
    champion: Mapping[str, str] | None,
    tags: Mapping[str, str],
) -> str:
    """Returns the card of a version as markdown.

    Args:
        trained: the trained model.
        version: the number of the version.
        decision: the verdict of the gate and the resulting alias.
        champion: the tags of the version that it was compared with, or None.
        tags: the tags of the version.
    """
    parts = [
        f"# {trained.name} version {version}",
        f"**{decision.verdict}**: {decision.reason}",
        _what_it_is(trained, tags.get(registry.REPEATS)),
        "## Perplexity\n\n" + "\n".join(_table(trained, decision, champion)),
        *_samples(trained.scores.get("samples") or []),
        _corpus(trained.corpus),
        _promotion(trained.name, version),
        _use(trained.name, version),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what_it_is(trained: TrainedModel, repeats: str | None) -> str:
    model, corpus = trained.model, trained.corpus
    same = f" It has the reuse key of version {repeats}, but its weights differ." if repeats else ""
    return (
        f"A causal language model with {model['parameters']:,} parameters, trained on `{corpus['name']}` for"
        f" {model['steps']:,} steps ({model['tokens_seen']:,} tokens, {model['train_seconds']:,.0f} s of training,"
        f" {model['gpu_seconds']:,.0f} GPU-seconds); the weights are those of step {model['best_step']:,}.{same}"
    )


def _table(trained: TrainedModel, decision: AliasDecision, champion: Mapping[str, str] | None) -> Iterable[str]:
    against = f" champion (version {decision.rival}) |" if champion else ""
    yield f"| split, measure | this version |{against}"
    yield "|---|---:|" + ("---:|" if champion else "")
    for split in HELD_OUT:
        for name in registry.MEASURES:
            ours = trained.measure(split, name)
            theirs = finite(champion.get(registry.score_tag(split, name))) if champion else None
            if ours is not None or theirs is not None:
                beside = f" {_number(theirs)} |" if champion else ""
                yield f"| {split}, {_NAMES[name]} | {_number(ours)} |{beside}"


def _number(value: float | None) -> str:
    return f"{value:.4g}" if value is not None and value < 10 else format_measure(value)


def _samples(samples: list[dict]) -> Iterable[str]:
    if samples:
        yield "## Samples"
    for sample in samples[:_SAMPLES]:
        prompt, text = str(sample["prompt"]), str(sample["continuation"])[:_SAMPLE_LENGTH]
        yield "> " + f"**{_inert(prompt)}** {_inert(text)}"


def _inert(text: str) -> str:
    """Escapes text of a corpus or a model, so that markdown shows it literally on one line."""
    escaped = "".join(f"\\{mark}" if mark in r"\`*_{}[]<()#+-!|~" else mark for mark in text)
    return " ".join(escaped.split())


def _corpus(corpus: Mapping[str, str]) -> str:
    return (
        f"## Corpus and licence\n\n`{corpus['name']}`, dataset digest `{corpus['dataset_digest'][:16]}`,"
        f" from {corpus['source']}. Licence of the text: {corpus['licence']}. {corpus['attribution']}"
    )


def _promotion(name: str, version: str) -> str:
    return (
        "## Promote and roll back\n\n"
        f"On this page: *Aliases*, add `{registry.CHAMPION}`, save. By command:"
        f' `wikigpt promote {version} --model {name} --reason "…"`. To return to the previous champion:'
        f' `wikigpt rollback --model {name} --reason "…"`.'
    )


def _use(name: str, version: str) -> str:
    return (
        "## Use\n\n```python\nimport mlflow\n"
        f'generate = mlflow.transformers.load_model("models:/{name}/{version}")\n'
        'generate("The castle was built in", max_new_tokens=40)\n```\n\n'
        f"To use the best model, resolve `models:/{name}@{registry.CHAMPION}` once per process. It was trained by"
        f" the run and with the settings that the tags name; `wikigpt reproduce models:/{name}/{version}` trains"
        " it again."
    )
