"""A pretrained tokenizer from the Hub, a folder or object storage. No code that comes with it is run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.address import is_folder
from components.shared.failure import ExitCode, Failure
from components.shared.pretrained import FILES, from_mirror
from components.shared.store import Store
from components.tokenize.bpe import END_OF_TEXT, wrapped

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_FILES = FILES["tokenizer"]
_GPT2 = "607a30d783dfa663caf39e06633721c8d4cfcd7e"
PINNED = {"gpt2": _GPT2, "openai-community/gpt2": _GPT2}


def load_pretrained(name: str, revision: str | None, work: Path, store: Store | None = None) -> PreTrainedTokenizerFast:
    """Loads a tokenizer.

    Args:
        name: its name on the Hub, a folder (begins with `/`, `./`, `../` or `~`), or an `s3://` prefix.
        revision: the commit, where it comes from the Hub.
        work: a scratch folder.
        store: asked before the Hub is.

    Raises:
        Failure: it cannot be had, its revision is not pinned, or it is of a kind that cannot be loaded.
    """
    folder = _bring(name, revision, work, store)
    if (folder / "tokenizer.json").is_file():
        from transformers import PreTrainedTokenizerFast

        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder))
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        tokenizer = wrapped(_from_merges(folder))
    else:
        raise Failure(
            "The folder holds no tokenizer",
            where=name,
            remedy="give one with tokenizer.json, or with vocab.json and merges.txt, or tokenize.tokenizer=bpe",
        )
    if tokenizer.eos_token_id is None:
        raise Failure(
            "The tokenizer has no end-of-text token",
            where=name,
            remedy="name one as eos_token in its tokenizer_config.json, or take another tokenizer",
        )
    return tokenizer


def _from_merges(folder: Path):
    """GPT-2's own two files, which transformers 5 reads as an empty vocabulary."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return tokenizer


def _bring(name: str, revision: str | None, work: Path, store: Store | None) -> Path:
    if name.startswith("s3://"):
        return _from_s3(name, work)
    if not is_folder(name):
        return _from_hub(name, revision, work, store)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    raise Failure(
        "There is no such folder with a tokenizer",
        where=name,
        remedy="mend tokenize.tokenizer: bpe, a folder, an s3:// prefix, or a name on the Hub with its revision",
    )


def _from_s3(address: str, work: Path) -> Path:
    from components.shared.store_s3 import S3Objects

    objects = S3Objects(address)
    for file in _FILES:
        if (data := objects.get(file)) is not None:
            (work / file).write_bytes(data)
    return work


def _from_hub(name: str, revision: str | None, work: Path, store: Store | None) -> Path:
    pinned = revision or PINNED.get(name)
    if pinned is None:
        raise Failure(
            "The tokenizer comes from the Hub and its revision is not pinned",
            where=f"https://huggingface.co/{name}",
            remedy="set tokenize.revision to the commit you trust; a folder begins with / or ./",
            exit_code=ExitCode.USAGE,
        )
    if mirrored := from_mirror(store, "tokenizer", name, pinned, work):
        return mirrored
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=pinned, allow_patterns=list(_FILES), etag_timeout=5))
    except Exception as error:
        raise Failure(
            f"The tokenizer cannot be had from the Hub: {type(error).__name__}",
            where=f"https://huggingface.co/{name} at {pinned[:12]}",
            remedy="look at the network and the name, bring it into the store by `wikigpt mirror`, or give a folder",
            exit_code=ExitCode.UNREACHABLE,
        ) from error
