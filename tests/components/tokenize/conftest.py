"""Corpora as the step `download` writes them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from components.shared.storage.manifest import write_manifest

WORDS = "the castle was built in 1212 by a king of that valley and its river , who 's lived @-@ there ."
TITLES = {"train": ("One", "Two", "Three"), "validation": ("Four",), "test": ("Five", "Six")}


def article(title: str) -> str:
    return f" \n = {title} = \n \n " + f" {title} {WORDS}" * 20 + " \n \n"


TEXTS = {split: "".join(map(article, titles)) for split, titles in TITLES.items()}
ODD = (
    "tabs\t\tand  two blanks   three\r\nCR LF\rCR alone\n\n\n \n\t\n"
    "line separators \u2028 \u2029 \x85 \x0b \x0c end\n"
    "é e\u0301 ﬁ 한글 汉字 🙂 👩‍👩‍👧 \ufeff \u200b \U0010ffff \x01\x7f\n"
    "<|endoftext|> and a<|endoftext|>b <unk> <pad> 's n't 12345678 @,@\n"
    "Ġ Ċ Â literal signs of byte-level BPE\n"
    "no newline at the end "
)


@pytest.fixture
def make_corpus(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder of kind corpus, with small texts for the splits that are not given."""

    def make(**texts: str) -> Path:
        folder = tmp_path / "corpus"
        folder.mkdir(exist_ok=True)
        for split, text in {**TEXTS, **texts}.items():
            (folder / f"{split}.txt").write_bytes(text.encode())
        write_manifest(folder, "corpus", {"dataset_digest": "d" * 64})
        return folder

    return make
