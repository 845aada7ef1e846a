"""Trains a byte-level BPE tokenizer on the train split alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from components.shared.text.articles import split_lines

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"


def train_bpe(text: str, *, vocab_size: int, min_frequency: int) -> Tokenizer:
    """Trains a tokenizer. The same text and settings give the same tokenizer, byte for byte.

    It first splits after each newline, so that encoding line by line gives the same tokens as encoding the whole text.
    Every byte is in its vocabulary, so there are no unknown tokens and decoding is exact.

    Args:
        text: the train split.
        vocab_size: the number of entries, including the end of text (id 0). There are fewer if the text has no more
            pairs.
        min_frequency: the number of occurrences that a pair needs to be merged.
    """
    tokenizer = Tokenizer(models.BPE())
    cut = pre_tokenizers.Split("\n", "merged_with_previous")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(split_lines(text), trainer)
    return tokenizer


def as_fast_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Wraps the tokenizer for transformers. A padding token would mask the end of text, so there is none."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )


def save(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Saves the tokenizer as a Hugging Face folder."""
    tokenizer.save_pretrained(str(folder))
