"""Loads a pretrained tokenizer from the Hub, a folder or object storage, without running code from there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.base.address import is_on_hub
from components.shared.base.failure import ExitCode, Failure
from components.shared.model.pretrained import fetch_pretrained
from components.shared.storage.store import Store
from components.tokenize.tokenizer import END_OF_TEXT, as_fast_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_GPT2 = "607a30d783dfa663caf39e06633721c8d4cfcd7e"
PINNED = {"gpt2": _GPT2, "openai-community/gpt2": _GPT2}


def load_pretrained(name: str, revision: str | None, work: Path, store: Store | None = None) -> PreTrainedTokenizerFast:
    """Loads a tokenizer.

    Args:
        name: a name on the Hub, a folder (begins with `/`, `./`, `../` or `~`), or an `s3://` prefix.
        revision: the commit of a tokenizer from the Hub.
        work: a temporary folder.
        store: the store, which is read before the Hub.

    Raises:
        Failure: it cannot be fetched, its revision is not pinned, or its kind cannot be loaded.
    """
    folder = fetch_pretrained("tokenizer", name, pinned(name, revision), work, store)
    if (folder / "tokenizer.json").is_file():
        from transformers import PreTrainedTokenizerFast

        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder))
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        tokenizer = as_fast_tokenizer(_from_merges(folder))
    else:
        raise Failure(
            "There is no tokenizer",
            where=name,
            remedy="give a folder, a prefix or a repository with tokenizer.json, or with vocab.json and merges.txt, or"
            " tokenize.tokenizer=bpe",
        )
    if tokenizer.eos_token_id is None:
        raise Failure(
            "The tokenizer has no end-of-text token",
            where=name,
            remedy="name one as eos_token in its tokenizer_config.json, or take another tokenizer",
        )
    return tokenizer


def pinned(name: str, revision: str | None) -> str:
    """Returns the pinned commit of a tokenizer on the Hub, or "" for a tokenizer from elsewhere.

    Raises:
        Failure: no revision is given, and `PINNED` does not have the tokenizer.
    """
    if not is_on_hub(name):
        return ""
    if commit := revision or PINNED.get(name):
        return commit
    raise Failure(
        "The tokenizer comes from the Hub and its revision is not pinned",
        where=f"https://huggingface.co/{name}",
        remedy="set tokenize.revision to the commit you trust; a folder begins with / or ./",
        exit_code=ExitCode.USAGE,
    )


def _from_merges(folder: Path):
    """Loads GPT-2's original two files, which transformers 5 reads as an empty vocabulary."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return tokenizer
