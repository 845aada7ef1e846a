"""The likelihood by blocks of the vocabulary is the softmax over the whole vocabulary."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from components.shared.model.head import negative_log_likelihood


@pytest.mark.parametrize(("tokens", "vocabulary"), [(1, 3), (512, 512), (513, 1025), (700, 511)])
def test_it_is_the_cross_entropy_in_float32(tokens, vocabulary):
    torch.manual_seed(0)
    hidden, weight = torch.randn(tokens, 16), torch.randn(vocabulary, 16)
    targets = torch.randint(vocabulary, (tokens,))
    expected = cross_entropy(hidden.double() @ weight.double().T, targets, reduction="none")
    with torch.autocast("cpu", torch.bfloat16):
        found = negative_log_likelihood(hidden, weight, targets)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=2e-5, rtol=0)


def test_large_logits_do_not_overflow_and_nan_is_not_hidden():
    hidden, weight = torch.full((2, 4), 1e3), torch.eye(4)
    hidden[1, 2] = torch.nan
    found = negative_log_likelihood(hidden, weight, torch.tensor([0, 1]))
    assert found[0] == pytest.approx(torch.tensor(4.0).log().item(), abs=1e-3)
    assert found[1].isnan()


def test_no_tokens_have_no_likelihood():
    assert negative_log_likelihood(torch.zeros(0, 4), torch.eye(4), torch.zeros(0, dtype=torch.int64)).shape == (0,)
