"""Computes the negative log-likelihood of every token, in batches of windows. All protocols use this code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from components.evaluate.windows import Window, sliding_windows
from components.shared.base.failure import Failure
from components.shared.model.head import head_in_float32, negative_log_likelihood

if TYPE_CHECKING:
    import torch

# Each window with its sequence and the index of that sequence.
Batch = list[tuple[np.ndarray, int, Window]]
Result = TypeVar("Result")


@dataclass(frozen=True)
class SequenceScore:
    """The scores of a sequence of tokens.

    Attributes:
        nll: the negative log-likelihood of each token in nats, float64; 0 for tokens that were not scored, and NaN if
            the model computed NaN.
        scored: whether each token was scored, bool.
    """

    nll: np.ndarray
    scored: np.ndarray


@dataclass(frozen=True)
class Scorer:
    """A model with its scoring parameters.

    Attributes:
        model: a causal language model of transformers, in evaluation mode, on its device.
        window: the number of tokens that it reads at once.
        stride: the number of tokens by which the window moves.
        dtype: `float32`, or `bfloat16` for autocast; output layer and likelihood are always in float32.
        batch_tokens: the number of tokens that are computed at once.
        workers: the number of batches that are computed in parallel on a CPU, each by one thread. For small models this
            is faster than all threads on one batch. The scores do not depend on it; 1 uses torch's own threads.
        plain_head: whether the logits are only the output layer applied to the last hidden state, see
            `components.shared.model.head`. If so, they are computed in parts, and only for tokens that are scored.
    """

    model: Any
    window: int
    stride: int
    dtype: str = "float32"
    batch_tokens: int = 2048
    workers: int = 1
    plain_head: bool = True

    def score(
        self,
        sequences: Sequence[np.ndarray],
        *,
        rolling: bool = True,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[SequenceScore]:
        """Computes the negative log-likelihood of each token of each sequence, in nats.

        Args:
            sequences: the token ids of each sequence, of which the first (a BOS) is read and not scored.
            rolling: whether to use the windows of lm-evaluation-harness: neighbouring windows share a token, so that
                the first target of each window has a context, and the last window reaches back as far as possible.
                Otherwise the windows are those of the Hugging Face documentation, whose first token is not scored if
                the stride is a whole window.
            progress: a function that is called after each batch with the number of scored tokens and of all tokens.

        Returns:
            The scores of each sequence; its first token is never scored.
        """
        jobs = [
            (index, window)
            for index, sequence in enumerate(sequences)
            for window in self.windows(sequence, rolling=rolling)
        ]
        total = sum(window.end - window.scored for _, window in jobs)
        scores = [SequenceScore(np.zeros(len(each)), np.zeros(len(each), dtype=bool)) for each in sequences]
        done = 0
        batches = [
            [(sequences[index], index, window) for index, window in batch]
            for batch in _batches(jobs, self.batch_tokens)
        ]
        with head_in_float32(self.model):
            for batch, values in zip(batches, self.in_parallel(self._score_batch, batches), strict=True):
                for (_, index, window), value in zip(batch, values, strict=True):
                    scores[index].nll[window.scored : window.end] = value
                    scores[index].scored[window.scored : window.end] = True
                    done += len(value)
                progress(done, total)
        return scores

    def windows(self, sequence: np.ndarray, *, rolling: bool = True) -> list[Window]:
        """Returns the windows over a sequence in the order of the text, see `score`."""
        span = self.window + 1 if rolling else self.window
        return list(sliding_windows(len(sequence), span, self.stride, fill_last=rolling))

    def in_parallel(self, compute: Callable[[Batch], Result], batches: Sequence[Batch]) -> Iterator[Result]:
        """Yields the result for each batch in order, computed by the workers."""
        import torch

        if self.workers == 1:
            yield from map(compute, batches)
            return
        threads = torch.get_num_threads()
        pool = ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,))
        try:
            yield from pool.map(compute, batches)
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)

    def _score_batch(self, batch: Batch) -> list[np.ndarray]:
        import torch

        with torch.inference_mode(), self.autocast():
            flat = self.likelihood(*self.states(batch))
        counts = [window.end - window.scored for *_, window in batch]
        return np.split(flat.double().cpu().numpy(), np.cumsum(counts)[:-1])

    def states(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the state that predicts each scored token of a batch [tokens, size], and the ids of these tokens.

        A state is the last hidden state, or the logits if `plain_head` is false.
        """
        import torch

        longest = max(window.end - window.begin for *_, window in batch)
        # Padding is on the right, where a causal model does not attend to it from any scored token.
        padded = np.zeros((len(batch), longest), dtype=np.int64)
        scored = np.zeros((len(batch), longest - 1), dtype=bool)
        for row, (sequence, _, window) in enumerate(batch):
            padded[row, : window.end - window.begin] = sequence[window.begin : window.end]
            scored[row, window.scored - window.begin - 1 : window.end - window.begin - 1] = True
        device = self.model.device
        ids, wanted = torch.from_numpy(padded).to(device), torch.from_numpy(scored).to(device)
        run = self.model.base_model if self.plain_head else self.model
        output = run(input_ids=ids[:, :-1], use_cache=False)
        last = output.last_hidden_state if self.plain_head else output.logits
        return last[wanted], ids[:, 1:][wanted]

    def likelihood(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Returns the negative log-likelihood of each target in nats [tokens], given its state, see `states`."""
        from torch.nn.functional import cross_entropy

        if self.plain_head:
            return negative_log_likelihood(states, self.model.get_output_embeddings().weight, targets)
        return cross_entropy(states.float(), targets, reduction="none")

    def autocast(self) -> AbstractContextManager:
        """The context in which the model computes with `dtype`."""
        import torch

        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16")


def context_of(model: Any) -> int:
    """Returns the context length of a model from its config, in tokens.

    Raises:
        Failure: the config has no context length.
    """
    for name in ("max_position_embeddings", "n_positions"):
        if value := getattr(model.config, name, None):
            return int(value)
    raise Failure(
        "The config of the model has no context length",
        where="config.json of the model",
        remedy="set max_position_embeddings there, or evaluate.window",
    )


def _batches(jobs: list[tuple[int, Window]], batch_tokens: int) -> Iterator[list[tuple[int, Window]]]:
    """Batches windows of similar length, which need little padding. The longest come first, so that a lack of memory
    shows at once."""
    ordered = sorted(jobs, key=lambda job: job[1].begin - job[1].end)
    start = 0
    while start < len(ordered):
        longest = ordered[start][1].end - ordered[start][1].begin
        size = max(1, batch_tokens // longest)
        yield ordered[start : start + size]
        start += size
