"""The evaluator is compared with published code, and tested for common mistakes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from components.evaluate.model import load_model
from components.evaluate.perplexity import _encode, score_text
from components.evaluate.scoring import Scorer
from components.evaluate.settings import EvaluateSettings
from components.evaluate.texts import hf_doc, wikitext_word
from components.shared.model.head import has_linear_lm_head
from components.shared.storage.manifest import read_manifest
from components.shared.text.articles import count_words
from components.tokenize.tokenizer import encode
from tests.components.evaluate.conftest import CONTEXT, make_model, write_model, write_text
from tests.components.evaluate.recipe import published_recipe


def scorer(model, *, window: int = CONTEXT, stride: int | None = None, **values) -> Scorer:
    return Scorer(model, window, stride or window, **values)


def token_by_token(model, ids: list[int], window: int) -> list[float]:
    """Each token given as many as `window` tokens before it, one forward pass a token."""
    nll = []
    for index in range(1, len(ids)):
        context = torch.tensor([ids[max(0, index - window) : index]])
        with torch.no_grad():
            nll.append(-float(model(context).logits[0, -1].double().log_softmax(-1)[ids[index]]))
    return nll


@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
@pytest.mark.parametrize("stride", [CONTEXT, CONTEXT // 2, 24])
def test_hf_doc_agrees_with_the_published_recipe(kind, stride, tokenizer):
    model, text = make_model(kind), write_text(7, 40)
    [joined] = hf_doc(text).documents[0].parts
    ids = torch.tensor([tokenizer(joined).input_ids])
    assert ids.size(1) > 100 * CONTEXT

    ours = score_text(text, "hf-doc", scorer(model, stride=stride), tokenizer, trained_bos=0)

    assert ours.tokens == ids.size(1)
    assert ours.token_perplexity == pytest.approx(published_recipe(model, ids, CONTEXT, stride), rel=1e-4)


def test_a_stride_of_one_gives_each_token_all_the_context_there_is(model, tokenizer, texts):
    text = texts["test"][:900]
    ours = score_text(text, "wikitext-word", scorer(model, window=16, stride=1), tokenizer, trained_bos=0)
    ids = [0, *(token for line in text.splitlines(keepends=True) for token in tokenizer(line).input_ids)]
    assert ours.nll == pytest.approx(sum(token_by_token(model, ids, 16)), rel=1e-6)


def test_a_text_that_spells_a_special_token_is_encoded_as_for_training(tmp_path, model, tokenizer):
    folder = write_model(tmp_path / "model", make_model(), tokenizer)
    loaded = load_model(folder, read_manifest(folder, "model").metadata, EvaluateSettings())
    text = " \n = Castle = \n \n one <|endoftext|> two \n"
    parts = encode(Tokenizer.from_file(str(folder / "tokenizer.json")), [text], np.dtype(np.uint16))
    trained = np.concatenate([part.ids for part in parts])
    documents = wikitext_word(text).documents
    assert tokenizer.eos_token_id not in trained
    scored = np.concatenate([_encode(loaded.tokenizer, document.parts) for document in documents])
    assert scored.tolist() == trained.tolist()


def test_measures_come_from_one_sum(model, tokenizer, texts):
    score = score_text(texts["test"], "wikitext-word", scorer(model), tokenizer, trained_bos=0)
    assert score.scored_tokens == score.tokens == sum(article.tokens for article in score.articles)
    assert score.words == count_words(texts["test"]) == sum(article.words for article in score.articles)
    assert sum(article.nll for article in score.articles) == pytest.approx(score.nll, rel=1e-12)
    assert score.token_perplexity == pytest.approx(math.exp(score.nll / score.tokens))
    assert score.word_perplexity == pytest.approx(math.exp(score.nll / score.words))
    assert score.bits_per_byte == pytest.approx(score.nll / math.log(2) / len(texts["test"].encode()))
    assert [article.title for article in score.articles[:2]] == ["Title 0 of 3", "Title 1 of 3"]


def test_the_mean_of_batch_losses_is_not_the_mean_per_token(model, tokenizer, texts):
    """The last batch is shorter than the others, so averaging batches would weigh its tokens more."""
    one = score_text(texts["test"], "wikitext-word", scorer(model, batch_tokens=10**6), tokenizer, trained_bos=0)
    for batch_tokens in (CONTEXT, 5 * CONTEXT, 7 * CONTEXT):
        batched = scorer(model, batch_tokens=batch_tokens)
        other = score_text(texts["test"], "wikitext-word", batched, tokenizer, trained_bos=0)
        assert other.nll == pytest.approx(one.nll, rel=1e-6)
        assert other.scored_tokens == one.scored_tokens


def test_workers_change_nothing_but_the_time(model, tokenizer, texts):
    torch.set_num_threads(2)
    alone, together = (
        score_text(
            texts["test"], "wikitext-word", scorer(model, batch_tokens=256, workers=count), tokenizer, trained_bos=0
        )
        for count in (1, 2)
    )
    assert torch.get_num_threads() == 2
    assert together.nll == pytest.approx(alone.nll, rel=1e-9)
    again = score_text(
        texts["test"], "wikitext-word", scorer(model, batch_tokens=256, workers=2), tokenizer, trained_bos=0
    )
    assert again == together


def test_logits_that_are_not_just_the_output_layer_are_taken_whole(tokenizer, texts):
    """Some architectures scale or cap logits after the output layer."""
    plain, scaled = make_model(), make_model()
    scaled.register_forward_hook(lambda module, args, output: setattr(output, "logits", 0.5 * output.logits))
    assert has_linear_lm_head(plain) and has_linear_lm_head(make_model("qwen3"))
    assert not has_linear_lm_head(scaled)
    with torch.no_grad():
        plain.lm_head.weight = torch.nn.Parameter(0.5 * plain.lm_head.weight)
    expected = score_text(texts["test"], "wikitext-word", scorer(plain), tokenizer, trained_bos=0)
    whole = scorer(scaled, plain_head=False)
    found = score_text(texts["test"], "wikitext-word", whole, tokenizer, trained_bos=0)
    assert found.nll == pytest.approx(expected.nll, rel=1e-6)


def test_a_real_end_of_text_is_scored_although_it_is_the_padding_token(model, tokenizer):
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 0
    sequence = np.array([0, 5, 0, 0, 7, 0])
    [padded, _] = scorer(model).score([sequence, np.arange(1, 40)])
    assert padded.scored.tolist() == [False, True, True, True, True, True]
    assert padded.nll[1:] == pytest.approx(token_by_token(model, sequence.tolist(), CONTEXT), rel=1e-5)


def test_without_a_trained_separator_the_first_token_is_left_out(model, tokenizer, texts):
    score = score_text(texts["test"], "wikitext-word", scorer(model), tokenizer, trained_bos=None)
    assert score.bos is None
    assert score.scored_tokens == score.tokens - 1


def test_more_context_can_only_be_had_by_a_smaller_stride(model, tokenizer, texts):
    """The recorded window and stride are those that were used."""
    score = score_text(texts["test"], "wikitext-word", scorer(model, window=32, stride=8), tokenizer, trained_bos=0)
    assert (score.window, score.stride, score.bos, score.dtype) == (32, 8, 0, "float32")
    assert score.scored_tokens == score.tokens


def test_bfloat16_moves_perplexity_little(model, tokenizer, texts):
    exact = score_text(texts["test"], "wikitext-word", scorer(model), tokenizer, trained_bos=0)
    rough = score_text(texts["test"], "wikitext-word", scorer(model, dtype="bfloat16"), tokenizer, trained_bos=0)
    assert rough.dtype == "bfloat16"
    assert rough.nll != exact.nll
    assert rough.word_perplexity == pytest.approx(exact.word_perplexity, rel=0.02)


def test_a_broken_model_is_reported_as_not_a_number(tokenizer, texts):
    broken = make_model()
    with torch.no_grad():
        broken.transformer.ln_f.weight.fill_(math.nan)
    score = score_text(texts["test"], "wikitext-word", scorer(broken), tokenizer, trained_bos=0)
    assert math.isnan(score.word_perplexity)


def test_an_empty_text_has_no_perplexity(model, tokenizer):
    score = score_text("", "wikitext-word", scorer(model), tokenizer, trained_bos=0)
    assert (score.tokens, score.nll) == (0, 0)
    assert score.word_perplexity is None and math.isnan(score.token_perplexity)


def test_progress_reaches_the_total(model, tokenizer, texts):
    seen = []
    score_text(
        texts["test"],
        "wikitext-word",
        replace(scorer(model), batch_tokens=512),
        tokenizer,
        trained_bos=0,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert len(seen) > 3
    assert seen == sorted(seen) and seen[-1][0] == seen[-1][1]
