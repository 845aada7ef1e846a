"""Every number that belongs to a model alone: perplexities by protocol and split, BLEU, samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from components.evaluate.continuations import choose_prompts, continue_prompts, generation_metrics, samples_of
from components.evaluate.model import LoadedModel, numerics_of
from components.evaluate.perplexity import Score, score_text
from components.evaluate.settings import GATE_FIELDS, EvaluateSettings
from components.shared.reuse.keys import code_and_releases, key_of
from components.shared.tracking.gate import PROTOCOL

Progress = Callable[[str, str, int, int], None]


@dataclass(frozen=True)
class ModelScores:
    """What a model scores.

    Attributes:
        protocols: by name and split.
        tokenizer_digest: of the model's tokenizer.
        bleu: see `generation_metrics`; empty where it was left out.
        samples: see `samples_of`.
    """

    protocols: dict[str, dict[str, Score]]
    tokenizer_digest: str
    bleu: dict[str, Any] = field(default_factory=dict)
    samples: list[dict[str, str]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def perplexities(
    loaded: LoadedModel, texts: Mapping[str, str], protocols: Iterable[str], progress: Progress
) -> dict[str, dict[str, Score]]:
    """Scores each split by each protocol.

    Args:
        loaded: the model.
        texts: by the name of the split.
        protocols: by which to score.
        progress: is called with protocol, split, the number of scored tokens and of all tokens.
    """
    return {
        protocol: {
            split: score_text(
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


def score_model(
    loaded: LoadedModel, texts: Mapping[str, str], settings: EvaluateSettings, progress: Progress
) -> ModelScores:
    """All scores of one model.

    Args:
        loaded: the model.
        texts: `validation` and `test`.
        settings: of the step.
        progress: see `perplexities`.
    """
    protocols = dict.fromkeys((PROTOCOL, *settings.protocols))
    scores = perplexities(loaded, texts, protocols, progress)
    finite = all(math.isfinite(score.nll) for splits in scores.values() for score in splits.values())
    count = max(settings.bleu_prompts, settings.samples) if finite else 0  # nothing can be drawn from NaN
    unit = scores[PROTOCOL]["test"].unit
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
    return ModelScores(
        scores,
        loaded.tokenizer_digest,
        generation_metrics(judged, unit) if judged else {},
        samples_of(made, settings.samples),
    )


def evaluation_key(settings: EvaluateSettings, dataset_digest: str) -> str:
    """The reuse key of an evaluation of some weights: what decides its numbers beside those weights.

    Scores in bfloat16 of a GPU have another key than those of a CPU.

    Args:
        settings: of the step.
        dataset_digest: of the corpus whose text is scored.
    """
    device, dtype = numerics_of(settings)
    chosen = asdict(settings) | {"device": device, "dtype": dtype}
    decisive = {name: value for name, value in chosen.items() if name not in GATE_FIELDS}
    return key_of({**code_and_releases("evaluation"), "dataset": dataset_digest, "settings": decisive})
