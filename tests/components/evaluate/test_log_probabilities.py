"""The log-probabilities of single tokens that are kept with an evaluation."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from components.evaluate.log_probabilities import read_log_probabilities, write_log_probabilities
from components.evaluate.perplexity import Score, TokenScores, score_text_by_token
from components.evaluate.scoring import Scorer
from components.shared.tracking.gate import PROTOCOL
from tests.components.evaluate.conftest import CONTEXT

DIGESTS = {"protocol": PROTOCOL, "weights_digest": "w" * 64, "tokenizer_digest": "t" * 64}


@pytest.fixture(scope="module")
def scored(model, tokenizer, texts) -> dict[str, tuple[Score, TokenScores]]:
    scorer = Scorer(model, CONTEXT, CONTEXT)
    return {
        split: score_text_by_token(texts[split], PROTOCOL, scorer, tokenizer, trained_bos=0)
        for split in ("validation", "test")
    }


def write(path: Path, scored: dict[str, tuple[Score, TokenScores]]) -> None:
    scores, tokens = ({split: each[index] for split, each in scored.items()} for index in (0, 1))
    write_log_probabilities(path, scores, tokens, **DIGESTS)  # type: ignore[arg-type]


def test_the_file_gives_text_articles_and_perplexity_back(scored, tokenizer, texts, tmp_path):
    write(tmp_path / "kept", scored)
    write(tmp_path / "again", scored)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "kept").read_bytes()
    kept = read_log_probabilities(tmp_path / "kept")
    assert (kept.protocol, kept.weights_digest, kept.tokenizer_digest) == tuple(DIGESTS.values())
    for split, (score, _) in scored.items():
        found = kept.splits[split]
        assert found.log_probabilities.dtype == np.float16 and found.tokens.dtype == np.uint16
        assert tokenizer.decode(found.tokens.tolist()) == texts[split]
        assert found.score == {name: value for name, value in score.to_dict().items() if name != "articles"}
        parts = np.split(found.log_probabilities.astype(np.float64), np.cumsum(found.articles)[:-1])
        assert [-part.sum() for part in parts] == pytest.approx([each.nll for each in score.articles], rel=1e-3)
        nll = -found.log_probabilities.astype(np.float64).sum()
        assert math.exp(nll / score.words) == pytest.approx(score.word_perplexity, rel=1e-3)


def test_a_text_as_long_as_wikitext_2_has_its_perplexity_to_five_digits(scored, tmp_path):
    """Its test split has about 330,000 tokens with 8,000 types, of 4 nats on average."""
    draw = np.random.default_rng(0)
    count = 330_000
    nll = draw.gamma(1.2, 3.4, size=count)
    tokens = TokenScores(draw.integers(0, 8000, size=count), nll, np.array([count]))
    write(tmp_path / "kept", {"test": (replace(scored["test"][0], articles=()), tokens)})
    kept = read_log_probabilities(tmp_path / "kept").splits["test"]
    rounded = -kept.log_probabilities.astype(np.float64)
    words = count / 1.35
    assert math.exp(rounded.sum() / words) == pytest.approx(math.exp(nll.sum() / words), rel=1e-5)
    assert np.abs(rounded / nll - 1)[nll > 0.001].max() <= 2**-11
    assert (tmp_path / "kept").stat().st_size < 1.5e6


@pytest.mark.parametrize("value", [math.nan, math.inf, 70_000.0, 0.0])
def test_extreme_values_are_kept_as_float16_can(scored, tmp_path, value):
    score, tokens = scored["test"]
    nll = tokens.nll.copy()
    nll[0] = value
    write(tmp_path / "kept", {"test": (score, replace(tokens, nll=nll))})
    [first, *_] = read_log_probabilities(tmp_path / "kept").splits["test"].log_probabilities
    expected = -math.inf if value > 65_504 else -value
    assert first == expected or (math.isnan(first) and math.isnan(expected))


def test_a_damaged_file_is_an_error_of_value(scored, tmp_path):
    write(tmp_path / "kept", scored)
    content = (tmp_path / "kept").read_bytes()
    for damaged in (b"", content[: len(content) // 2], content.replace(b"scores", b"socres")):
        (tmp_path / "kept").write_bytes(damaged)
        with pytest.raises(ValueError, match="kept cannot be read"):
            read_log_probabilities(tmp_path / "kept")
