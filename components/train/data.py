"""Packed blocks of a split, resident on the device, in an order that is a function of the seed and the step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from components.shared.base.failure import ExitCode, Failure
from components.train.settings import TrainSettings


def seed_of(*numbers: int) -> int:
    """A seed of 64 bits that is a function of these numbers alone; zeros at their end make no difference."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


class Draw:
    """Random numbers that are a function of a seed alone, the same in every release of NumPy.

    NumPy guarantees the integers of a seeded bit generator, here the published Philox4x64-10 (Salmon et al. 2011), and
    not what its `Generator` makes of them: `permutation` and `integers` may change.
    """

    def __init__(self, *seed: int):
        self.bits = np.random.Philox(seed)

    def permutation(self, count: int) -> np.ndarray:
        """The numbers below `count` in a random order: that of as many integers of 64 bits."""
        return np.argsort(self.bits.random_raw(count), kind="stable")

    def below(self, bound: int) -> int:
        """A number below a bound; the lower ones are more probable by less than bound / 2^64."""
        return int(self.bits.random_raw()) % bound


@dataclass(frozen=True)
class Split:
    """The tokens of one split.

    Attributes:
        tokens: ids, shape (tokens,).
        articles: offsets of the articles' starts and the end, shape (articles + 1,).
        start_id: the token put before every article, or None for nothing.
    """

    tokens: np.ndarray
    articles: np.ndarray
    start_id: int | None

    @classmethod
    def open(cls, folder: Path, name: str, dtype: str, start_id: int | None) -> Split:
        """Maps a split of a folder of kind tokens."""
        tokens = np.memmap(folder / f"{name}.bin", dtype=np.dtype(dtype).newbyteorder("<"), mode="r")
        return cls(tokens, np.load(folder / f"{name}.articles.npy"), start_id)

    @property
    def text(self) -> np.ndarray:
        """The articles one after the other, int32, each after the start token if there is one."""
        if self.start_id is None:
            return self.tokens.astype(np.int32)
        text = np.empty(self.stream_length, dtype=np.int32)
        is_start = np.zeros(len(text), dtype=bool)
        is_start[self.bounds[:-1]] = True
        text[is_start] = self.start_id
        text[~is_start] = self.tokens
        return text

    @property
    def bounds(self) -> np.ndarray:
        """Offsets in `text` at which the articles begin with their start token, and the end, shape (articles + 1,)."""
        return self.articles + (0 if self.start_id is None else np.arange(len(self.articles)))

    def counts(self, vocab_size: int) -> np.ndarray:
        """How often each token stands in `text`, shape (vocab_size,)."""
        counts = np.bincount(self.tokens, minlength=vocab_size)
        if self.start_id is not None:
            counts[self.start_id] += len(self.articles) - 1
        return counts

    @property
    def stream_length(self) -> int:
        starts = 0 if self.start_id is None else len(self.articles) - 1
        return len(self.tokens) + starts


@dataclass(frozen=True)
class Epoch:
    """One pass over the train split: its articles shuffled, cut into blocks from a random offset, the blocks shuffled.

    The articles stay where they are in the text; positions in their shuffled sequence are looked up.

    Attributes:
        order: the articles, in the order of this epoch, shape (articles,).
        ends: where each of them ends in the sequence, on the device.
        shifts: the distance of each from its position in the sequence to that in the text, on the device.
        starts: where the blocks begin in the sequence, in the order of training, on the device.
    """

    order: np.ndarray
    ends: Tensor
    shifts: Tensor
    starts: Tensor

    def in_text(self, positions: Tensor) -> Tensor:
        """Where positions of the sequence are in the text."""
        return positions + self.shifts[torch.searchsorted(self.ends, positions, right=True)]


class TrainOrder:
    """Which tokens stand in which step. Nothing is remembered: the step number alone restores the data order.

    The tokens are on the device once; an epoch costs a few numbers for each article and each block.

    Args:
        split: the train split.
        block: tokens a sequence.
        batch: sequences a step.
        seed: of every shuffle.
        device: where the tokens live.

    Raises:
        Failure: the split is smaller than one batch.
    """

    def __init__(self, split: Split, *, block: int, batch: int, seed: int, device: torch.device):
        self.split, self.block, self.batch, self.seed, self.device = split, block, batch, seed, device
        # A block needs one token more than its length, as the target of its last, and the offset takes up to a block.
        self.steps_per_epoch = max(0, (split.stream_length - block) // block) // batch
        if not self.steps_per_epoch:
            raise Failure(
                f"The train split has {len(split.tokens)} tokens, less than a step of {batch} blocks of {block}",
                where="train.global_batch_size and train.sequence_length",
                remedy="lower train.global_batch_size or train.sequence_length, or take a larger corpus",
                exit_code=ExitCode.USAGE,
            )
        self.text = torch.from_numpy(split.text).to(device)
        self.epoch = lru_cache(maxsize=1)(self._epoch)

    def inputs_and_targets(self, step: int, part: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """The sequences of a step, or a part of them, and the token after each of their tokens.

        Returns:
            Two int64 tensors of shape (sequences, block).
        """
        number, position = divmod(step, self.steps_per_epoch)
        epoch = self.epoch(number)
        starts = epoch.starts[position * self.batch : (position + 1) * self.batch][part]
        positions = starts[:, None] + torch.arange(self.block + 1, device=self.device)
        rows = self.text[epoch.in_text(positions)].long()
        return rows[:, :-1], rows[:, 1:]

    def place(self, step: int) -> str:
        """Where the tokens of a step stand in the corpus, for a person who has to look at them."""
        number, position = divmod(step, self.steps_per_epoch)
        epoch = self.epoch(number)
        starts = epoch.starts[position * self.batch : (position + 1) * self.batch]
        first, last = (torch.searchsorted(epoch.ends, at, right=True).tolist() for at in (starts, starts + self.block))
        articles = sorted({int(epoch.order[i]) for a, b in zip(first, last, strict=True) for i in range(a, b + 1)})
        shown = ", ".join(map(str, articles))
        return f"epoch {number}, batch {position} of {self.steps_per_epoch}, articles {shown} of the train split"

    def _epoch(self, number: int) -> Epoch:
        random = Draw(self.seed, number)
        order = random.permutation(len(self.split.articles) - 1)
        offset = random.below(self.block)
        available = (self.split.stream_length - 1 - offset) // self.block
        starts = offset + self.block * random.permutation(available)[: self.steps_per_epoch * self.batch]
        bounds = self.split.bounds
        ends = np.cumsum(np.diff(bounds)[order])
        shifts = bounds[1:][order] - ends
        return Epoch(order, *(torch.from_numpy(each).to(self.device) for each in (ends, shifts, starts)))


class ValidationBlocks:
    """Blocks of the validation split in its own order, for the loss per token of its text.

    Start tokens are context and not scored, as in the step that evaluates; every other token but the first is scored
    once.

    Args:
        split: the validation split.
        block: tokens a sequence.
        limit: read about this many tokens, in whole blocks spread evenly; None for all.
        device: where the tokens live.
    """

    def __init__(self, split: Split, *, block: int, limit: int | None, device: torch.device):
        stream = split.text
        scored = np.ones(len(stream), dtype=bool)
        if split.start_id is not None:
            scored[split.bounds[:-1]] = False
        self.stream = torch.from_numpy(stream).to(device)
        self.scored = torch.from_numpy(scored).to(device)
        bounds = list(pairwise([*range(0, len(stream) - 1, block), len(stream) - 1]))
        wanted = len(bounds) if limit is None else max(1, min(len(bounds), limit // block))
        self.bounds = [bounds[i * len(bounds) // wanted] for i in range(wanted)]

    def batches(self, size: int, rank: int = 0, world: int = 1) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The share of one process: inputs, targets and which targets count, each of shape (up to size, length)."""
        mine = self.bounds[rank::world]
        by_length: dict[int, list[int]] = {}
        for start, end in mine:
            by_length.setdefault(end - start, []).append(start)
        for length, starts in by_length.items():
            for first in range(0, len(starts), size):
                rows = torch.tensor(starts[first : first + size])[:, None] + torch.arange(length + 1)
                rows = rows.to(self.stream.device)
                tokens = self.stream[rows].long()
                yield tokens[:, :-1], tokens[:, 1:], self.scored[rows[:, 1:]]


@dataclass(frozen=True)
class Corpus:
    """What is trained on and judged by, with the size of the tokenizer's vocabulary."""

    order: TrainOrder
    validation: ValidationBlocks
    vocab_size: int


def open_corpus(settings: TrainSettings, tokens: dict[str, Any], folder: Path, device: torch.device) -> Corpus:
    """The blocks of a folder of tokens, on the device.

    Args:
        settings: block, batch, seed and what is read of validation.
        tokens: the metadata of the folder.
    """
    start_id = tokens["eos_id"] if settings.prepend_eos else None
    train_split, validation = (Split.open(folder, name, tokens["dtype"], start_id) for name in ("train", "validation"))
    order = TrainOrder(
        train_split, block=settings.sequence_length, batch=settings.global_batch_size, seed=settings.seed, device=device
    )
    blocks = ValidationBlocks(
        validation, block=settings.sequence_length, limit=settings.validation_tokens, device=device
    )
    return Corpus(order, blocks, tokens["vocab_size"])
