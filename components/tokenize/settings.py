"""Settings of the tokenize step. All of them are part of the reuse key of the tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from components.shared.base.address import (
    OWN_TOKENIZER,
    is_on_hub,
    is_registered,
    is_repository,
    require_bucket_name,
)
from components.shared.base.model_address import require_model_address
from components.shared.base.ranges import Range, check_ranges, safe_repr

OWN = OWN_TOKENIZER
# The 256 bytes, the end of text, and a few merges.
SMALLEST_VOCABULARY = 260


@dataclass(frozen=True, kw_only=True)
class TokenizeSettings:
    """How text becomes tokens.

    Attributes:
        tokenizer: `bpe` to train one on the train split, or a pretrained one: a folder (begins with `/`, `./`, `../` or
            `~`), an `s3://` prefix, a registered version (`models:/NAME/VERSION` or `models:/NAME@ALIAS`), or a name on
            the Hub. If the training starts from a registered version, `bpe` means the tokenizer of that version.
        revision: the commit of a tokenizer from the Hub, 40 hex digits; optional for GPT-2.
        vocab_size: the number of entries of a trained vocabulary, including the end of text.
        min_frequency: the number of occurrences that a pair needs to be merged.
    """

    tokenizer: str = OWN
    revision: str | None = None
    vocab_size: Annotated[int, Range(SMALLEST_VOCABULARY, 1_000_000)] = 8192
    min_frequency: Annotated[int, Range(1, 1_000_000_000)] = 2

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.tokenizer.strip():
            raise ValueError("tokenizer must be bpe, a name, a folder or an s3:// prefix, got nothing")
        require_bucket_name("tokenizer", self.tokenizer)
        require_model_address("tokenizer", self.tokenizer)
        if is_on_hub(self.tokenizer) and not is_repository(self.tokenizer):
            raise ValueError(
                f"tokenizer must be OWNER/NAME on the Hub, a folder or s3://, got {safe_repr(self.tokenizer)}"
            )
        if self.revision is not None and is_registered(self.tokenizer):
            raise ValueError(f"revision must be null for {self.tokenizer}, whose version is fixed, got {self.revision}")
        if self.revision is not None and not re.fullmatch(r"[0-9a-f]{40}", self.revision):
            raise ValueError(f"revision must be a commit of 40 hexadecimal digits, got {safe_repr(self.revision)}")
