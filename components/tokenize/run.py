"""The step that trains or loads a tokenizer and writes every split as an array of token ids."""

from __future__ import annotations

import io
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from components.shared.base.events import emit
from components.shared.reuse.keys import tokens_parts
from components.shared.runtime.step import Step
from components.shared.storage.files import file_fact, write_atomically
from components.shared.storage.manifest import read_manifest, write_manifest
from components.shared.storage.store import Store
from components.shared.text.articles import SPLIT_FILE, count_lines, count_words, read_pieces
from components.tokenize.pretrained import load_pretrained
from components.tokenize.settings import OWN, TokenizeSettings
from components.tokenize.tokenizer import as_fast_tokenizer, dtype_for, encode, train_bpe

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast


def run(step: Step, tokens_key: str, corpus_dir: Path, tokens_dir: Path) -> None:
    """Writes the tokens of a corpus to a folder, or reuses stored tokens.

    Args:
        step: the context of the step.
        tokens_key: the reuse key of the tokens.
        corpus_dir: the folder of the corpus.
        tokens_dir: the output folder for the tokens.

    Raises:
        Failure: the tokenizer cannot be fetched or loses text; the disk is full.
    """
    if step.store.fetch("tokens", tokens_key, tokens_dir):
        emit("reused", step=step.name, what="tokens", tokens_key=tokens_key)
        return
    settings = step.section(TokenizeSettings)
    corpus = read_manifest(corpus_dir, "corpus")
    started = time.monotonic()
    metadata = write_tokens(settings, corpus_dir, tokens_dir, step.store)
    seconds = time.monotonic() - started
    digest = corpus.metadata["dataset_digest"]
    identity = tokens_parts(digest, step.settings["tokenize"])
    made_of = {"dataset_digest": digest, "tokens_key": tokens_key, "identity": identity}
    write_manifest(tokens_dir, "tokens", {**metadata, **made_of})
    step.store.publish(tokens_dir, "tokens", tokens_key)
    total = {unit: sum(split[unit] for split in metadata["splits"].values()) for unit in ("tokens", "bytes")}
    emit("tokens", seconds=round(seconds, 2), vocab_size=metadata["vocab_size"], **total)


def write_tokens(
    settings: TokenizeSettings, corpus_dir: Path, tokens_dir: Path, store: Store | None = None
) -> dict[str, Any]:
    """Writes an array and article offsets for each split, and the tokenizer.

    Returns:
        The metadata of the folder: dtype, vocab_size, eos_id, tokenizer_digest, and counts by split.
    """
    tokens_dir.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(settings, corpus_dir / SPLIT_FILE["train"], store)
    digest = _save(tokenizer, tokens_dir / "tokenizer")
    vocab_size = max(tokenizer.get_vocab().values()) + 1
    dtype = dtype_for(vocab_size)
    splits = {}
    for done, (split, file) in enumerate(SPLIT_FILE.items(), start=1):
        splits[split] = _write_split(tokenizer.backend_tokenizer, corpus_dir / file, tokens_dir, split, dtype)
        emit("progress", step="tokenize", done=done, total=len(SPLIT_FILE))
    return {
        "dtype": dtype.name,
        "vocab_size": vocab_size,
        "eos_id": tokenizer.eos_token_id,
        "tokenizer_digest": digest,
        "splits": splits,
    }


def _write_split(tokenizer: Tokenizer, text: Path, tokens_dir: Path, split: str, dtype: np.dtype) -> dict[str, int]:
    """Encodes a file a few megabytes at a time, and returns its counts."""
    counts = dict.fromkeys(("tokens", "words", "lines", "bytes"), 0)
    articles: list[int] = []

    def pieces() -> Iterator[str]:
        for piece in _pieces(text):
            counts["words"] += count_words(piece)
            counts["lines"] += count_lines(piece)
            yield piece

    def write(stream: IO[bytes]) -> None:
        for encoded in encode(tokenizer, pieces(), dtype):
            articles.extend(counts["tokens"] + start for start in encoded.articles)
            counts["tokens"] += len(encoded.ids)
            stream.write(encoded.ids.data)

    write_atomically(tokens_dir / f"{split}.bin", write)
    offsets = np.array([*articles, counts["tokens"]], dtype=np.int64)
    write_atomically(tokens_dir / f"{split}.articles.npy", _npy(offsets))
    return {**counts, "bytes": text.stat().st_size, "articles": len(articles)}


def _pieces(text: Path) -> Iterator[str]:
    return (piece.decode() for piece in read_pieces(text))


def _tokenizer(settings: TokenizeSettings, train: Path, store: Store | None) -> PreTrainedTokenizerFast:
    if settings.tokenizer == OWN:
        trained = train_bpe(_pieces(train), vocab_size=settings.vocab_size, min_frequency=settings.min_frequency)
        return as_fast_tokenizer(trained)
    with tempfile.TemporaryDirectory() as work:
        return load_pretrained(settings.tokenizer, settings.revision, Path(work), store)


def _save(tokenizer: PreTrainedTokenizerFast, folder: Path) -> str:
    """Saves the tokenizer and returns the digest of the file that determines its ids."""
    shutil.rmtree(folder, ignore_errors=True)
    tokenizer.save_pretrained(str(folder))
    return file_fact(folder / "tokenizer.json").sha256


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
