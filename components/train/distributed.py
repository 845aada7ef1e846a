"""Collective operations of data-parallel processes. A single process skips all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


class PeerLost(Exception):
    """Another process of the training is gone, so that a collective operation is impossible."""


@dataclass(frozen=True)
class DistributedContext:
    """One process among the data-parallel processes of a training.

    Attributes:
        rank: the number of the process; rank 0 logs and writes.
        size: the number of processes.
        host: the process group over host memory, whose calls do not wait for the device.
    """

    rank: int = 0
    size: int = 1
    host: dist.ProcessGroup | None = None

    def local_slice(self, total: int) -> slice:
        """The rows of a global batch that this process computes."""
        size = total // self.size
        return slice(self.rank * size, (self.rank + 1) * size)

    def all_reduce_mean_(self, tensors: Iterable[Tensor]) -> None:
        """Replaces tensors in place by their mean over the processes."""
        if self.size == 1:
            return
        tensors = list(tensors)
        with _peers_needed():
            for handle in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
                handle.wait()
        torch._foreach_div_(tensors, self.size)

    def all_reduce_sum_(self, tensor: Tensor) -> Tensor:
        """Replaces a tensor in place by its sum over the processes."""
        if self.size > 1:
            with _peers_needed():
                dist.all_reduce(tensor)
        return tensor

    def any(self, *flags: bool) -> list[bool]:
        """Whether any process sets the flag, for each flag; all processes get the same answer."""
        if self.size == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.int)
        with _peers_needed():
            dist.all_reduce(raised, op=dist.ReduceOp.MAX, group=self.host)
        return [bool(flag) for flag in raised.tolist()]

    def barrier(self) -> None:
        """Waits for all processes.

        Raises:
            PeerLost: a process is gone; the operations above raise this as well.
        """
        self.any(False)


SINGLE_PROCESS = DistributedContext()


@contextmanager
def _peers_needed() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo has no narrower one
        raise PeerLost(str(error)) from error
