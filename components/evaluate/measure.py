"""Computes the scores of one model: perplexities by protocol and split, BLEU, and samples.

By the static protocols the trained model scores every token; by those of `adaptive` it learns from the text that it has
scored already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from components.evaluate.adaptive import AdaptedScores, require_adaptable, score_adaptively
from components.evaluate.continuations import choose_prompts, continue_prompts, generation_metrics, samples_of
from components.evaluate.model import LoadedModel, numerics_of
from components.evaluate.perplexity import Score, TokenScores, score_text_by_token
from components.evaluate.settings import ADAPTIVE, GATE_FIELDS, EvaluateSettings
from components.shared.reuse.keys import code_and_releases, key_of
from components.shared.tracking.gate import PROTOCOL

Progress = Callable[[str, str, int, int], None]


@dataclass(frozen=True)
class ModelScores:
    """The scores of a model.

    Attributes:
        protocols: the score by static protocol and split.
        tokenizer_digest: the digest of the model's tokenizer.
        tokens: the scores of the single tokens of each split by the headline protocol.
        adapted: the scores by adaptive protocol.
        bleu: the result of `generation_metrics`; empty if it was not computed.
        samples: the result of `samples_of`.
    """

    protocols: dict[str, dict[str, Score]]
    tokenizer_digest: str
    tokens: dict[str, TokenScores]
    adapted: dict[str, AdaptedScores] = field(default_factory=dict)
    bleu: dict[str, Any] = field(default_factory=dict)
    samples: list[dict[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The fields without those of single tokens, which have a file of their own."""
        fields = asdict(replace(self, tokens={}))
        del fields["tokens"]
        return fields


def perplexities(
    loaded: LoadedModel, texts: Mapping[str, str], protocols: Iterable[str], progress: Progress
) -> ModelScores:
    """Scores each split by each of the static protocols, of which one is the headline protocol.

    Args:
        loaded: the model.
        texts: the text of each split.
        protocols: the names of the protocols.
        progress: a function that is called with the protocol, the split, the number of scored tokens and the number
            of all tokens.
    """
    scored = {
        protocol: {
            split: score_text_by_token(
                text,
                protocol,
                loaded.scorer,
                loaded.tokenizer,
                trained_bos=loaded.trained_bos,
                progress=lambda done, total, p=protocol, s=split: progress(p, s, done, total),  # type: ignore[misc]
            )
            for split, text in texts.items()
        }
        for protocol in protocols
    }
    scores = {protocol: {split: score for split, (score, _) in splits.items()} for protocol, splits in scored.items()}
    tokens = {split: tokens for split, (_, tokens) in scored[PROTOCOL].items()}
    return ModelScores(scores, loaded.tokenizer_digest, tokens)


def score_model(
    loaded: LoadedModel, texts: Mapping[str, str], train: Path, settings: EvaluateSettings, progress: Progress
) -> ModelScores:
    """Computes all scores of one model.

    Args:
        loaded: the model.
        texts: the texts of `validation` and `test`.
        train: the file of the train split, from whose beginning dynamic evaluation learns the size of gradients.
        settings: the settings of the step.
        progress: see `perplexities`.

    Raises:
        Failure: a protocol does not suit the model.
    """
    require_adaptable(loaded, settings.protocols)
    static = dict.fromkeys((PROTOCOL, *(name for name in settings.protocols if name not in ADAPTIVE)))
    scores = perplexities(loaded, texts, static, progress)
    finite = all(math.isfinite(score.nll) for splits in scores.protocols.values() for score in splits.values())
    adapted: dict[str, AdaptedScores] = {
        name: score_adaptively(name, loaded, texts, train, settings.cache_size, progress)
        for name in settings.protocols
        if name in ADAPTIVE and finite
    }
    count = max(settings.bleu_prompts, settings.samples) if finite else 0  # NaN logits cannot be sampled from
    unit = scores.protocols[PROTOCOL]["test"].unit
    prompts = choose_prompts(texts["test"], count, settings.prompt_words, settings.continuation_words, unit)
    made = continue_prompts(
        loaded,
        prompts,
        settings.continuation_words,
        samples=settings.samples,
        temperature=settings.temperature,
        top_k=settings.top_k,
        seed=settings.seed,
        unit=unit,
    )
    judged = made[: settings.bleu_prompts]
    return replace(
        scores,
        adapted=adapted,
        bleu=generation_metrics(judged, unit) if judged else {},
        samples=samples_of(made, settings.samples),
    )


def evaluation_key(settings: EvaluateSettings, dataset_digest: str) -> str:
    """Returns the reuse key of an evaluation: it covers everything except the weights that affects the scores.

    Scores in bfloat16 on a GPU and scores on a CPU have different keys.

    Args:
        settings: the settings of the step.
        dataset_digest: the digest of the corpus whose text is scored.
    """
    device, dtype = numerics_of(settings)
    chosen = asdict(settings) | {"device": device, "dtype": dtype}
    decisive = {name: value for name, value in chosen.items() if name not in GATE_FIELDS}
    return key_of({**code_and_releases("evaluation"), "dataset": dataset_digest, "settings": decisive})
