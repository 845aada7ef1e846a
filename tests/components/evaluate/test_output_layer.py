"""The output layer is in float32 whatever the precision of the layers below it: autocast would round the logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 -- torch's own name for it
from peft import PrefixTuningConfig, get_peft_model
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from components.evaluate.prefix import Prefixed
from components.evaluate.scoring import Scorer
from components.shared.model.head import has_linear_lm_head, head_in_float32
from tests.components.evaluate.conftest import CONTEXT, make_model

CAP = 3.0
IDS = np.arange(7, 55)


def capped() -> Any:
    """A model that caps its logits, so that they are more than a product with a matrix."""
    torch.manual_seed(0)
    shape = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": CONTEXT, "vocab_size": 448,
        "final_logit_softcapping": CAP, "initializer_range": 0.2,
    }  # fmt: skip
    return AutoModelForCausalLM.from_config(AutoConfig.for_model("gemma2", **shape)).eval()


def biased() -> Any:
    model = make_model()
    model.lm_head = nn.Linear(32, 448)
    return model


def prefixed(folder: Path) -> Any:
    adapted = get_peft_model(make_model(), PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    adapted.save_pretrained(folder, save_embedding_layers=False)
    return Prefixed(make_model(), folder).eval()


def reference(model: Any, after: Callable[[Tensor], Tensor], *, rounded: bool) -> np.ndarray:
    """Nats of every token but the first, by the output layer in float32 on what the layers below it made in bfloat16.

    Args:
        after: what the model does to its logits.
        rounded: whether the logits are rounded to bfloat16, as autocast does it.
    """
    seen: list[Tensor] = []
    head = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    ids = torch.from_numpy(IDS)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        model(input_ids=ids[None, :-1])
    handle.remove()
    with torch.inference_mode():
        logits = F.linear(seen[0][0].float(), head.weight, head.bias)
        logits = after(logits.bfloat16().float() if rounded else logits)
        return F.cross_entropy(logits, ids[1:], reduction="none").double().numpy()


@pytest.mark.parametrize("kind", ["gpt2", "qwen3", "biased", "capped", "prefixed"])
def test_scores_in_bfloat16_are_those_of_a_float32_output_layer(kind: str, tmp_path: Path) -> None:
    makers = {"biased": biased, "capped": capped, "prefixed": lambda: prefixed(tmp_path)}
    model = makers.get(kind, lambda: make_model(kind))()
    plain = kind in ("gpt2", "qwen3")
    assert kind == "prefixed" or has_linear_lm_head(model) == plain
    after = (lambda logits: CAP * torch.tanh(logits / CAP)) if kind == "capped" else (lambda logits: logits)
    (score,) = Scorer(model, CONTEXT, CONTEXT, dtype="bfloat16", plain_head=plain).score([IDS])
    expected = reference(model, after, rounded=False)
    assert np.allclose(score.nll[1:], expected, atol=1e-5)
    assert np.abs(reference(model, after, rounded=True) - expected).max() > 1e-3, "rounding would be seen"


def test_threads_that_score_side_by_side_have_it_too() -> None:
    model = make_model()
    scorer = Scorer(model, CONTEXT, CONTEXT, dtype="bfloat16", batch_tokens=CONTEXT, workers=2)
    expected = reference(model, lambda logits: logits, rounded=False)
    assert all(np.allclose(score.nll[1:], expected, atol=1e-5) for score in scorer.score([IDS] * 4))


def test_after_the_block_the_output_layer_is_as_before() -> None:
    model = make_model()
    hidden = torch.randn(2, 32)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        with head_in_float32(model):
            assert model.lm_head(hidden).dtype == torch.float32
        assert model.lm_head(hidden).dtype == torch.bfloat16
