"""Settings of the tokenizer; all of them are part of the reuse key of the tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass

OWN = "bpe"
# The 256 bytes, the end of text, and room for merges.
SMALLEST_VOCABULARY = 260


@dataclass(frozen=True, kw_only=True)
class TokenizeSettings:
    """How text becomes tokens.

    Attributes:
        tokenizer: `bpe` to train one on the train split; else a pretrained one: a folder (begins with `/`, `./`,
            `../` or `~`), an `s3://` prefix, or its name on the Hub.
        revision: the commit of a tokenizer from the Hub, 40 hex digits; may be left out for GPT-2.
        vocab_size: entries of a trained vocabulary, the end of text among them.
        min_frequency: how often a pair must occur to be merged.
    """

    tokenizer: str = OWN
    revision: str | None = None
    vocab_size: int = 8192
    min_frequency: int = 2

    def __post_init__(self) -> None:
        if not self.tokenizer.strip():
            raise ValueError("tokenizer must be bpe, a name, a folder or an s3:// prefix, got nothing")
        if self.revision is not None and not re.fullmatch(r"[0-9a-f]{40}", self.revision):
            raise ValueError(f"revision must be a commit of 40 hexadecimal digits, got {self.revision!r}")
        if self.vocab_size < SMALLEST_VOCABULARY:
            raise ValueError(f"vocab_size must be at least {SMALLEST_VOCABULARY}, got {self.vocab_size}")
        if self.min_frequency < 1:
            raise ValueError(f"min_frequency must be at least 1, got {self.min_frequency}")
