"""A tiny corpus in WikiText's format, a byte-level BPE trained on it, and untrained models around it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from components.shared.storage.files import file_fact
from components.shared.storage.manifest import digest_of, write_manifest

CONTEXT = 64
_SENTENCES = """the castle was built in a valley of the river and its tower fell during the siege , when snow came
early . Songs were sung @-@ by 1 @,@ 200 players ; critics ( some of them ) said : it is " bold " ! The king 's son"""
_WORDS = _SENTENCES.split()


def write_text(seed: int, articles: int, words: int = 90) -> str:
    """Articles with a title, a section and two paragraphs, made of drawn words."""
    draw = random.Random(seed)
    lines = []
    for number in range(articles):
        paragraph = [" " + " ".join(draw.choices(_WORDS, k=words)) + " \n" for _ in range(2)]
        lines += [" \n", f" = Title {number} of {seed} = \n", " \n", paragraph[0], " \n"]
        lines += [" = = Section = = \n", " \n", paragraph[1]]
    return "".join(lines)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def texts() -> dict[str, str]:
    return {"train": write_text(1, 20), "validation": write_text(2, 12), "test": write_text(3, 14)}


@pytest.fixture(scope="session")
def tokenizer(texts) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"(?<=\n)"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([texts["train"]], trainer)
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=end, eos_token=end, pad_token=end)


def make_model(kind: str = "gpt2", seed: int = 0, vocabulary: int = 448) -> Any:
    """An untrained model with a context of 64 and a vocabulary that is padded beyond the tokenizer's. Its weights are
    scaled up, so that its logits differ."""
    torch.manual_seed(seed)
    if kind == "gpt2":
        shape = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT}
    else:
        shape = {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": CONTEXT, "tie_word_embeddings": True,
        }  # fmt: skip
    config = AutoConfig.for_model(kind, vocab_size=vocabulary, initializer_range=0.2, **shape)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.fixture(scope="session")
def model() -> Any:
    return make_model()


def write_corpus(folder: Path, texts: dict[str, str]) -> Path:
    folder.mkdir(parents=True)
    for split, text in texts.items():
        (folder / f"{split}.txt").write_bytes(text.encode())
    digests = {split: file_fact(folder / f"{split}.txt").sha256 for split in texts}
    metadata = {
        "name": "sample",
        "model_name": "wikigpt-sample",
        "dataset_digest": digest_of(digests),
        "licence": "CC0-1.0",
        "attribution": "",
        "source": "test",
        "published": False,
    }
    write_manifest(folder, "corpus", metadata)
    return folder


def write_model(folder: Path, model: Any, tokenizer: Any, **identity: Any) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    rows = [{"step": step, "tokens": step * 512, "loss": 6 - step / 50} for step in range(0, 100, 10)]
    rows += [{"step": step, "validation_loss": 5.5 - step / 60, "validation_perplexity": 90.0} for step in (50, 100)]
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    metadata = {
        "reuse_key": "k" * 32,
        "identity": {"train.sequence_length": 32, "train.prepend_eos": True, **identity},
        "best_step": 100,
        "steps": 100,
        "validation_loss": 4.0,
        "tokens_seen": 51200,
        "train_seconds": 3.0,
        "gpu_seconds": 0.0,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "numerics": {"device": "cpu", "threads": 1, "precision": "float32"},
        "dataset_digest": "d" * 64,
        "tokenizer_digest": file_fact(folder / "tokenizer.json").sha256,
        "stopped": "budget",
    }
    write_manifest(folder, "model", metadata)
    return folder
