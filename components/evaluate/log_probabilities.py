"""The log-probability of every token of the headline protocol, kept in one file with the evaluation.

From these files versions can be combined without their models, store or text, see `pipelines.registry.ensemble`.
The file has the format safetensors. For each held-out split it contains

    <split>.log_probabilities   float16 [tokens]   in nats, tokens in the order of the text, only those that were scored
    <split>.tokens              unsigned [tokens]  their ids; with the tokenizer of the version they give the text back
    <split>.articles            int64 [articles]   the number of tokens of each article

and in its header the protocol, the digests of weights and tokenizer, and the score of each split.

A float16 has 11 significant bits, so a value is rounded by at most 2**-11 of itself. The errors of many tokens nearly
cancel: perplexities of a split like WikiText-2's from these values and from float64 differ by less than 1e-5 of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.storage.files import write_atomically

if TYPE_CHECKING:
    import numpy as np

    from components.evaluate.perplexity import Score, TokenScores


@dataclass(frozen=True)
class KeptSplit:
    """What the file contains for a split.

    Attributes:
        log_probabilities: in nats, float16 [tokens].
        tokens: the ids of the tokens [tokens].
        articles: the number of tokens of each article [articles].
        score: the fields of `components.evaluate.perplexity.Score` without its articles.
    """

    log_probabilities: np.ndarray
    tokens: np.ndarray
    articles: np.ndarray
    score: dict[str, Any]


@dataclass(frozen=True)
class KeptLogProbabilities:
    """The content of the file.

    Attributes:
        protocol: the protocol of the scores.
        weights_digest, tokenizer_digest: the digests of the model that was scored.
        splits: the values by split.
    """

    protocol: str
    weights_digest: str
    tokenizer_digest: str
    splits: dict[str, KeptSplit]


def write_log_probabilities(
    path: Path,
    scores: Mapping[str, Score],
    tokens: Mapping[str, TokenScores],
    *,
    protocol: str,
    weights_digest: str,
    tokenizer_digest: str,
) -> None:
    """Writes the file.

    Args:
        path: the file.
        scores: the score of each split.
        tokens: the scores of the tokens of each split.
        protocol, weights_digest, tokenizer_digest: see `KeptLogProbabilities`.
    """
    import numpy as np
    from safetensors.numpy import save

    arrays: dict[str, np.ndarray] = {}
    for split, each in tokens.items():
        with np.errstate(over="ignore"):  # beyond 65,504 nats a float16 is infinite, and so is the perplexity
            arrays[f"{split}.log_probabilities"] = (-each.nll).astype(np.float16)
        arrays[f"{split}.tokens"] = each.ids.astype(np.min_scalar_type(int(each.ids.max(initial=0))))
        arrays[f"{split}.articles"] = each.articles
    facts = {split: {name: value for name, value in score.to_dict().items() if name != "articles"}
             for split, score in scores.items()}  # fmt: skip
    header = {
        "protocol": protocol,
        "weights_digest": weights_digest,
        "tokenizer_digest": tokenizer_digest,
        "scores": facts,
    }
    # As one text, because safetensors writes several in random order, and equal content should have equal bytes.
    write_atomically(path, save(arrays, metadata={"evaluation": json.dumps(header)}))


def read_log_probabilities(path: Path) -> KeptLogProbabilities:
    """Reads the file.

    Raises:
        ValueError: it is damaged, or is not such a file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            header = json.loads(file.metadata()["evaluation"])
            splits = {
                split: KeptSplit(
                    log_probabilities=file.get_tensor(f"{split}.log_probabilities"),
                    tokens=file.get_tensor(f"{split}.tokens"),
                    articles=file.get_tensor(f"{split}.articles"),
                    score=score,
                )
                for split, score in header["scores"].items()
            }
            return KeptLogProbabilities(
                header["protocol"], header["weights_digest"], header["tokenizer_digest"], splits
            )
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from error
