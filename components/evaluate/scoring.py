"""The one evaluator: negative log-likelihood of every token, batched over windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from components.evaluate.windows import Window, sliding_windows
from components.shared.base.failure import Failure
from components.shared.model.head import head_in_float32

if TYPE_CHECKING:
    import torch

# Rows of logits computed at once on a CPU: so many stay in its cache, which is faster than all of a batch.
_CPU_ROWS = 128
_GPU_ROWS = 8192


# Windows with the sequence that each lies in, and its index.
Batch = list[tuple[np.ndarray, int, Window]]


@dataclass(frozen=True)
class SequenceScore:
    """A sequence of tokens.

    Attributes:
        nll: nats of each token, float64, 0 where it was not scored; NaN is what a broken model gave.
        scored: which tokens were, bool.
    """

    nll: np.ndarray
    scored: np.ndarray


@dataclass(frozen=True)
class Scorer:
    """A model with the way it is run.

    Attributes:
        model: a causal language model of transformers, in evaluation mode, on its device.
        window: tokens that it reads at once.
        stride: tokens by which the window moves.
        dtype: `float32`, or `bfloat16` for autocast; output layer and likelihood are always in float32.
        batch_tokens: tokens computed at once.
        workers: batches computed side by side, each by one thread of a CPU: for small models faster than giving all
            threads to one batch, and the numbers do not depend on it. 1 leaves torch's own threads as they are.
        plain_head: whether logits are the output layer of the last hidden state and nothing else, see
            `components.shared.model.head`; then they are computed in parts, and only where a token is scored.
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
        """Negative log-likelihood of each token of each sequence, in nats.

        Args:
            sequences: token ids; a token that is read but not scored (a BOS) comes first.
            rolling: let neighbouring windows share a token, so that each of them gives its first target a context,
                and let the last reach back as far as it can: the windows of lm-evaluation-harness. Without it they
                are those of the Hugging Face documentation, which lose their first token where the stride is a whole
                window.
            progress: is called with the number of scored tokens and of all tokens after each batch.

        Returns:
            The scores of each sequence; its first token is never scored.
        """
        span = self.window + 1 if rolling else self.window
        jobs = [
            (index, window)
            for index, sequence in enumerate(sequences)
            for window in sliding_windows(len(sequence), span, self.stride, fill_last=rolling)
        ]
        total = sum(window.end - window.scored for _, window in jobs)
        scores = [SequenceScore(np.zeros(len(each)), np.zeros(len(each), dtype=bool)) for each in sequences]
        done = 0
        batches = [
            [(sequences[index], index, window) for index, window in batch]
            for batch in _batches(jobs, self.batch_tokens)
        ]
        with head_in_float32(self.model):
            for batch, values in zip(batches, self._in_parallel(batches), strict=True):
                for (_, index, window), value in zip(batch, values, strict=True):
                    scores[index].nll[window.scored : window.end] = value
                    scores[index].scored[window.scored : window.end] = True
                    done += len(value)
                progress(done, total)
        return scores

    def _in_parallel(self, batches: list[Batch]) -> Iterator[list[np.ndarray]]:
        import torch

        if self.workers == 1:
            yield from map(self._score_batch, batches)
            return
        threads = torch.get_num_threads()
        pool = ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,))
        try:
            yield from pool.map(self._score_batch, batches)
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)

    def _score_batch(self, batch: Batch) -> list[np.ndarray]:
        import torch

        longest = max(window.end - window.begin for *_, window in batch)
        # Padding is on the right, where a causal model cannot see it from any token that is scored.
        padded = np.zeros((len(batch), longest), dtype=np.int64)
        scored = np.zeros((len(batch), longest - 1), dtype=bool)
        for row, (sequence, _, window) in enumerate(batch):
            padded[row, : window.end - window.begin] = sequence[window.begin : window.end]
            scored[row, window.scored - window.begin - 1 : window.end - window.begin - 1] = True
        device = self.model.device
        ids, wanted = torch.from_numpy(padded).to(device), torch.from_numpy(scored).to(device)
        with torch.inference_mode(), self._autocast():
            run = self.model.base_model if self.plain_head else self.model
            output = run(input_ids=ids[:, :-1], use_cache=False)
            last = output.last_hidden_state if self.plain_head else output.logits
            flat = self._likelihood(last[wanted], ids[:, 1:][wanted])
        return np.split(flat.double().cpu().numpy(), np.cumsum(scored.sum(axis=1))[:-1])

    def _likelihood(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        import torch
        from torch.nn.functional import cross_entropy

        head = self.model.get_output_embeddings() if self.plain_head else lambda logits: logits
        rows = _CPU_ROWS if hidden.device.type == "cpu" else _GPU_ROWS
        return torch.cat(
            [
                cross_entropy(head(part).float(), target, reduction="none")
                for part, target in zip(hidden.split(rows), targets.split(rows), strict=True)
            ]
        )

    def _autocast(self) -> AbstractContextManager:
        import torch

        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16")


def context_of(model: Any) -> int:
    """Tokens that a model can read at once, by its config.

    Raises:
        Failure: the config does not say.
    """
    for name in ("max_position_embeddings", "n_positions"):
        if value := getattr(model.config, name, None):
            return int(value)
    raise Failure(
        "The config of the model does not say how long its context is",
        where="config.json of the model",
        remedy="set max_position_embeddings there, or evaluate.window",
    )


def _batches(jobs: list[tuple[int, Window]], batch_tokens: int) -> Iterator[list[tuple[int, Window]]]:
    """Windows of like length together, longest first, so that little is padded and memory runs out at once or never."""
    ordered = sorted(jobs, key=lambda job: job[1].begin - job[1].end)
    start = 0
    while start < len(ordered):
        longest = ordered[start][1].end - ordered[start][1].begin
        size = max(1, batch_tokens // longest)
        yield ordered[start : start + size]
        start += size
