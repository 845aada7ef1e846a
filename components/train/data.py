"""Token ids of a split, and sequences of them in an order that the seed and the step determine."""

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

# The tokens that are counted at once, as numbers of eight bytes.
_COUNTED = 1 << 22
# The part of a GPU's memory that the train split may take, four bytes for each token; the model and its gradients and
# activations need the rest.
_SHARE_OF_GPU = 1 / 8


def seed_of(*numbers: int) -> int:
    """A 64-bit seed that is a function of these numbers alone; trailing zeros make no difference."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


class StableRandom:
    """Random numbers that are the same in every release of NumPy.

    NumPy guarantees the integers of a seeded bit generator, here the published Philox4x64-10 (Salmon et al. 2011). It
    does not guarantee the methods of its `Generator`: `permutation` and `integers` may change.
    """

    def __init__(self, *seed: int):
        self.bits = np.random.Philox(seed)

    def permutation(self, count: int) -> np.ndarray:
        """The numbers below `count` in a random order: the argsort of as many 64-bit integers."""
        return np.argsort(self.bits.random_raw(count), kind="stable")

    def below(self, bound: int) -> int:
        """A number below a bound; lower numbers are more probable by less than bound / 2^64."""
        return int(self.bits.random_raw()) % bound


@dataclass(frozen=True)
class TokenSplit:
    """The tokens of one split.

    Attributes:
        tokens: token ids, shape (tokens,).
        articles: the offsets at which articles begin, and the end, shape (articles + 1,).
        eos_id: the end-of-text token if it is put before every article, otherwise None.
    """

    tokens: np.ndarray
    articles: np.ndarray
    eos_id: int | None

    @classmethod
    def open(cls, folder: Path, name: str, dtype: str, eos_id: int | None) -> TokenSplit:
        """Memory-maps a split of a folder of kind tokens."""
        tokens = np.memmap(folder / f"{name}.bin", dtype=np.dtype(dtype).newbyteorder("<"), mode="r")
        return cls(tokens, np.load(folder / f"{name}.articles.npy"), eos_id)

    @property
    def ids(self) -> np.ndarray:
        """The token ids of the articles in the order of the split, int32, each article after `eos_id` if it is set."""
        if self.eos_id is None:
            return self.tokens.astype(np.int32)
        ids = np.empty(self.ids_length, dtype=np.int32)
        is_eos = np.zeros(len(ids), dtype=bool)
        is_eos[self.bounds[:-1]] = True
        ids[is_eos] = self.eos_id
        ids[~is_eos] = self.tokens
        return ids

    @property
    def bounds(self) -> np.ndarray:
        """Offsets in `ids` at which articles begin, with their `eos_id`, and the end, shape (articles + 1,)."""
        return self.articles + (0 if self.eos_id is None else np.arange(len(self.articles)))

    def head(self, count: int) -> np.ndarray:
        """The first ids, at most so many."""
        starts = self.articles[:-1]
        tokens = self.tokens[:count]
        return TokenSplit(tokens, np.append(starts[starts < count], len(tokens)), self.eos_id).ids[:count]

    def take(self, positions: np.ndarray) -> np.ndarray:
        """The ids at some positions, int32, read from the file: `ids[positions]` without `ids`."""
        if self.eos_id is None:
            return self.tokens[positions].astype(np.int32)
        bounds = self.bounds
        article = np.searchsorted(bounds, positions, side="right") - 1
        is_eos = bounds[article] == positions
        tokens = self.tokens[(positions - article - 1).clip(min=0)].astype(np.int32)
        return np.where(is_eos, np.int32(self.eos_id), tokens)

    def counts(self, vocab_size: int) -> np.ndarray:
        """The number of occurrences of each token in `ids`, shape (vocab_size,)."""
        counts = np.zeros(vocab_size, np.int64)
        for start in range(0, len(self.tokens), _COUNTED):
            counts += np.bincount(self.tokens[start : start + _COUNTED], minlength=vocab_size)
        if self.eos_id is not None:
            counts[self.eos_id] += len(self.articles) - 1
        return counts

    @property
    def ids_length(self) -> int:
        """The length of `ids`."""
        added = 0 if self.eos_id is None else len(self.articles) - 1
        return len(self.tokens) + added


@dataclass(frozen=True)
class Epoch:
    """One pass over the train split: shuffled articles, cut into sequences from a random offset, which are shuffled.

    The ids are not copied: a position among the shuffled articles is mapped to a position in the split.

    Attributes:
        order: the articles, in the order of this epoch, shape (articles,).
        ends: the positions at which the shuffled articles end, on the device.
        shifts: for each shuffled article the distance to its position in the split, on the device.
        starts: the positions among the shuffled articles at which sequences begin, in the order of training, on the
            device.
    """

    order: np.ndarray
    ends: Tensor
    shifts: Tensor
    starts: Tensor

    def to_split_position(self, shuffled: Tensor) -> Tensor:
        """Maps positions among the shuffled articles to positions in `TokenSplit.ids`."""
        return shuffled + self.shifts[torch.searchsorted(self.ends, shuffled, right=True)]


def fits_on(device: torch.device, tokens: int) -> bool:
    """Whether so many tokens are held on a device; a CPU reads them from the file, which the system keeps in memory."""
    if device.type != "cuda":
        return False
    return 4 * tokens <= _SHARE_OF_GPU * torch.cuda.get_device_properties(device).total_memory


class TrainBatches:
    """The global batches of the train split. They have no state: the step number alone restores the data order.

    The tokens are on the GPU once. On a CPU, and if they would take too much of the GPU's memory, a batch is read from
    the file. An epoch needs a few numbers per article and sequence.

    Args:
        split: the train split.
        sequence_length: tokens per sequence.
        batch_size: sequences per optimizer step.
        seed: the seed of every shuffle.
        device: the device of the batches.

    Raises:
        Failure: the split is smaller than one batch.
    """

    def __init__(self, split: TokenSplit, *, sequence_length: int, batch_size: int, seed: int, device: torch.device):
        self.split, self.sequence_length, self.batch_size = split, sequence_length, batch_size
        self.seed, self.device = seed, device
        # The target of the last token needs one more token, and the random offset skips less than one sequence.
        self.steps_per_epoch = max(0, (split.ids_length - sequence_length) // sequence_length) // batch_size
        if not self.steps_per_epoch:
            raise Failure(
                f"The train split has {len(split.tokens)} tokens, less than a batch of {batch_size} sequences of"
                f" {sequence_length}",
                where="train.global_batch_size and train.sequence_length",
                remedy="lower train.global_batch_size or train.sequence_length, or take a larger corpus",
                exit_code=ExitCode.USAGE,
            )
        self.ids = torch.from_numpy(split.ids).to(device) if fits_on(device, split.ids_length) else None
        self.epoch = lru_cache(maxsize=1)(self._epoch)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Gathers the inputs of an optimizer step and the target of each input, which is the next token.

        Returns:
            Two int64 tensors of shape (sequences, sequence length).
        """
        number, position = divmod(step, self.steps_per_epoch)
        epoch = self.epoch(number)
        starts = epoch.starts[position * self.batch_size : (position + 1) * self.batch_size]
        shuffled = starts[:, None] + torch.arange(self.sequence_length + 1, device=self.device)
        rows = self._at(epoch.to_split_position(shuffled)).long()
        return rows[:, :-1], rows[:, 1:]

    def _at(self, positions: Tensor) -> Tensor:
        if self.ids is not None:
            return self.ids[positions]
        return torch.from_numpy(self.split.take(positions.cpu().numpy())).to(self.device)

    def describe_batch(self, step: int) -> str:
        """Names the epoch, the batch and the articles of a step, for a person who has to look at them."""
        number, position = divmod(step, self.steps_per_epoch)
        epoch = self.epoch(number)
        starts = epoch.starts[position * self.batch_size : (position + 1) * self.batch_size]
        edges = (starts, starts + self.sequence_length)
        first, last = (torch.searchsorted(epoch.ends, edge, right=True).tolist() for edge in edges)
        articles = sorted({int(epoch.order[i]) for a, b in zip(first, last, strict=True) for i in range(a, b + 1)})
        shown = ", ".join(map(str, articles))
        return f"epoch {number}, batch {position} of {self.steps_per_epoch}, articles {shown} of the train split"

    def _epoch(self, number: int) -> Epoch:
        random = StableRandom(self.seed, number)
        order = random.permutation(len(self.split.articles) - 1)
        offset = random.below(self.sequence_length)
        available = (self.split.ids_length - 1 - offset) // self.sequence_length
        sequences = random.permutation(available)[: self.steps_per_epoch * self.batch_size]
        starts = offset + self.sequence_length * sequences
        bounds = self.split.bounds
        ends = np.cumsum(np.diff(bounds)[order])
        shifts = bounds[1:][order] - ends
        return Epoch(order, *(torch.from_numpy(each).to(self.device) for each in (ends, shifts, starts)))


class ValidationBatches:
    """Sequences of the validation split in its own order, for the loss per token.

    The end-of-text tokens are context and are not scored, as in the step `evaluate`; every other token except the first
    is scored once.

    Args:
        split: the validation split.
        sequence_length: tokens per sequence.
        limit: about how many tokens are read, in whole sequences that are spread evenly; None reads all.
        device: the device that holds the tokens.
    """

    def __init__(self, split: TokenSplit, *, sequence_length: int, limit: int | None, device: torch.device):
        ids = split.ids
        scored = np.ones(len(ids), dtype=bool)
        if split.eos_id is not None:
            scored[split.bounds[:-1]] = False
        self.ids = torch.from_numpy(ids).to(device)
        self.scored = torch.from_numpy(scored).to(device)
        bounds = list(pairwise([*range(0, len(ids) - 1, sequence_length), len(ids) - 1]))
        wanted = len(bounds) if limit is None else max(1, min(len(bounds), limit // sequence_length))
        self.bounds = [bounds[i * len(bounds) // wanted] for i in range(wanted)]

    def batches(self, size: int, rank: int = 0, world: int = 1) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yields inputs, targets and which targets are scored for one process, each of shape (up to size, length)."""
        mine = self.bounds[rank::world]
        by_length: dict[int, list[int]] = {}
        for start, end in mine:
            by_length.setdefault(end - start, []).append(start)
        for length, starts in by_length.items():
            for first in range(0, len(starts), size):
                rows = torch.tensor(starts[first : first + size])[:, None] + torch.arange(length + 1)
                rows = rows.to(self.ids.device)
                tokens = self.ids[rows].long()
                yield tokens[:, :-1], tokens[:, 1:], self.scored[rows[:, 1:]]


@dataclass(frozen=True)
class TrainingData:
    """The train and validation tokens, with the size of the tokenizer's vocabulary."""

    train: TrainBatches
    validation: ValidationBatches
    vocab_size: int


def open_data(settings: TrainSettings, tokens: dict[str, Any], folder: Path, device: torch.device) -> TrainingData:
    """Opens a folder of kind tokens and puts its train and validation tokens on the device.

    Args:
        settings: the sequence length, the batch size, the seed and the number of validation tokens.
        tokens: the metadata of the folder.
    """
    eos_id = tokens["eos_id"] if settings.prepend_eos else None
    train, validation = (TokenSplit.open(folder, name, tokens["dtype"], eos_id) for name in ("train", "validation"))
    length = settings.sequence_length
    batch_size = settings.global_batch_size
    return TrainingData(
        TrainBatches(train, sequence_length=length, batch_size=batch_size, seed=settings.seed, device=device),
        ValidationBatches(validation, sequence_length=length, limit=settings.validation_tokens, device=device),
        tokens["vocab_size"],
    )
