"""Settings of the evaluation at their bounds: the real evaluator scores and continues a tiny model with them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from components.evaluate.measure import score_model
from components.evaluate.model import load_model
from components.evaluate.settings import ADAPTIVE, CACHE, DYNAMIC, EvaluateSettings
from components.shared.storage.manifest import read_manifest
from tests.components.evaluate.conftest import CONTEXT, make_model, texts, tokenizer, write_model  # noqa: F401

PROTOCOLS = ("wikitext-word", "hf-doc", "lm-eval")


@pytest.fixture(scope="module")
def folder(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    return write_model(tmp_path_factory.mktemp("model") / "model", make_model(), tokenizer)


@pytest.mark.parametrize(
    "values",
    [
        {"window": 2, "stride": 1},
        {"window": 2, "stride": 2},
        {"window": CONTEXT, "stride": CONTEXT},
        {"batch_tokens": 1},
        {"protocols": (CACHE,), "cache_size": 1},
        {"protocols": (CACHE,), "cache_size": 1 << 20, "batch_tokens": 1},
        {"protocols": (DYNAMIC, CACHE), "window": 2, "stride": 1, "threads": 1},
        {"protocols": (DYNAMIC, CACHE), "window": CONTEXT, "bos": "never", "threads": 1},
        {"batch_tokens": 1 << 20},
        pytest.param({"threads": 1024}, marks=pytest.mark.slow),
        {"prompt_words": 1, "continuation_words": 1},
        {"prompt_words": 1_000_000},
        {"prompt_words": 1, "continuation_words": 1_000_000},
        {"bleu_prompts": 0, "samples": 0},
        {"bleu_prompts": 1_000_000, "samples": 1_000_000},
        {"temperature": 0.01, "top_k": 10_000_000},
        {"temperature": 100, "top_k": 1, "seed": 2**64 - 1},
    ],
    ids=str,
)
def test_a_model_is_judged_at_the_bounds(
    folder: Path, texts: dict[str, str], values: dict[str, Any], tmp_path: Path  # noqa: F811
) -> None:  # fmt: skip
    plain = {"protocols": PROTOCOLS, "device": "cpu", "bleu_prompts": 2, "prompt_words": 8, "continuation_words": 4}
    settings = EvaluateSettings(**(plain | values))
    loaded = load_model(folder, read_manifest(folder, "model").metadata, settings)
    held_out = {split: texts[split][:2000] for split in ("validation", "test")}
    (train := tmp_path / "train.txt").write_text(texts["train"][:2000])
    if DYNAMIC in settings.protocols:  # it is slow, and its own tests have longer texts
        held_out = {split: text[:150] for split, text in held_out.items()}
        train.write_text(texts["train"][:150])
    measured = score_model(loaded, held_out, train, settings, lambda *_: None)
    assert measured.adapted.keys() == set(settings.protocols) & ADAPTIVE.keys()
    for scores in (*measured.protocols.values(), *(each.splits for each in measured.adapted.values())):
        assert all(math.isfinite(score.nll) and score.scored_tokens for score in scores.values())
