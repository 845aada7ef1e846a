import pytest

from components.shared.base.failure import Failure
from components.shared.runtime.settings import parse_section
from components.tokenize.settings import TokenizeSettings


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"vocab_size": 3}, "vocab_size must be from 260 to 1000000, got 3; the nearest is 260"),
        ({"vocab_size": "many"}, "vocab_size"),
        ({"tokenizer": ""}, "tokenizer"),
        ({"min_frequency": 0}, "min_frequency"),
        ({"revision": "main"}, "revision must be a commit"),
    ],
)
def test_a_wrong_setting_is_named(values, field):
    with pytest.raises(Failure, match=f"tokenize.{field}"):
        parse_section(TokenizeSettings, values, "tokenize")
