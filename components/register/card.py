"""The card of a version: the markdown that MLflow shows on the version's page, for whoever decides to use it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from components.register.lineage import Made
from components.register.promotion import Placed
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


def card(made: Made, version: str, placed: Placed, champion: Mapping[str, str] | None, tags: Mapping[str, str]) -> str:
    """The card of a version, markdown.

    Args:
        made: the model and what is known of it.
        version: its number.
        placed: what the gate said and which alias followed.
        champion: the tags of the version that it was compared with, or None.
        tags: of the version itself.
    """
    parts = [
        f"# {made.name} version {version}",
        f"**{placed.word}**: {placed.reason}",
        _what_it_is(made, tags.get(registry.REPEATS)),
        "## Perplexity\n\n" + "\n".join(_table(made, placed, champion)),
        *_samples(made.scores.get("samples") or []),
        _corpus(made),
        _promotion(made.name, version),
        _use(made.name, version),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what_it_is(made: Made, repeats: str | None) -> str:
    model = made.model
    same = f" It repeats version {repeats}: the same was asked for, and other weights came of it." if repeats else ""
    return (
        f"A causal language model with {model['parameters']:,} parameters, trained on `{made.corpus['name']}` for"
        f" {model['steps']:,} steps ({model['tokens_seen']:,} tokens, {model['train_seconds']:,.0f} s of training,"
        f" {model['gpu_seconds']:,.0f} GPU-seconds); the weights are those of step {model['best_step']:,}.{same}"
    )


def _table(made: Made, placed: Placed, champion: Mapping[str, str] | None) -> Iterable[str]:
    against = f" champion (version {placed.rival}) |" if champion else ""
    yield f"| split, measure | this version |{against}"
    yield "|---|---:|" + ("---:|" if champion else "")
    for split in HELD_OUT:
        for name in registry.MEASURES:
            ours = made.measure(split, name)
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
    """Text of a corpus or a model as one line of markdown that is shown as it stands."""
    escaped = "".join(f"\\{mark}" if mark in r"\`*_{}[]<()#+-!|~" else mark for mark in text)
    return " ".join(escaped.split())


def _corpus(made: Made) -> str:
    return (
        f"## Corpus and licence\n\n`{made.corpus['name']}`, dataset digest `{made.corpus['dataset_digest'][:16]}`,"
        f" from {made.corpus['source']}. Licence of the text: {made.corpus['licence']}. {made.corpus['attribution']}"
    )


def _promotion(name: str, version: str) -> str:
    return (
        "## Promote and roll back\n\n"
        f"On this page: *Aliases*, add `{registry.CHAMPION}`, save. By command:"
        f' `wikigpt promote {version} --model {name} --reason "…"`. Back to the champion before:'
        f' `wikigpt rollback --model {name} --reason "…"`.'
    )


def _use(name: str, version: str) -> str:
    return (
        "## Use\n\n```python\nimport mlflow\n"
        f'generate = mlflow.transformers.load_model("models:/{name}/{version}")\n'
        'generate("The castle was built in", max_new_tokens=40)\n```\n\n'
        f"Whoever wants the best model resolves `models:/{name}@{registry.CHAMPION}` once per process. Trained by"
        f" the run and of the settings that the tags name; `wikigpt reproduce models:/{name}/{version}` makes"
        " it again."
    )
