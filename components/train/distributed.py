"""Collective operations of data-parallel processes. A single process skips all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class PeerLost(Exception):
    """Another process of the training is gone, so that a collective operation is impossible."""


@dataclass(frozen=True)
class DistributedContext:
    """One process among the data-parallel processes of a training.

    Attributes:
        rank: the number of the process; rank 0 logs and writes.
        size: the number of processes.
        local_rank: the number of the process on its machine.
        hosts: the number of machines, which have equally many processes each.
        host: the process group over host memory, whose calls do not wait for the device.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    hosts: int = 1
    host: dist.ProcessGroup | None = None

    @property
    def beside_rank_0(self) -> bool:
        """Whether this process runs on the machine of rank 0."""
        return self.rank == self.local_rank

    def local_slice(self, total: int) -> slice:
        """The rows of a global batch that this process computes."""
        size = total // self.size
        return slice(self.rank * size, (self.rank + 1) * size)

    def replicate(self, model: nn.Module) -> nn.Module:
        """A module that calls `function(model, *arguments)`, and averages gradients over the processes.

        With several processes it is `DistributedDataParallel`: gradients are reduced in buckets while the backward pass
        of what the function returned still runs (Li et al. 2020). A compiled function is cut at the buckets, because
        the gradients of one compiled graph are all ready at its end. The weights of rank 0 replace those of the others.
        """
        if self.size == 1:
            return _Replica(model)
        with _peers_needed():
            replica = DistributedDataParallel(_Replica(model), forward_sync_buffers=False, gradient_as_bucket_view=True)
            # The order of the first gradients decides the buckets, and these decide how sums over three or more
            # processes are rounded. This first backward pass has the same order in a resumed training.
            replica(_sum_of_weights).backward()
            model.zero_grad()
        return replica

    @contextmanager
    def backward(self, replica: nn.Module, *, reduce: bool) -> Iterator[None]:
        """Surrounds a forward and a backward pass. Without `reduce` each process adds to its own gradients.

        Raises:
            PeerLost: a process is gone.
        """
        if self.size == 1:
            yield
            return
        try:
            with nullcontext() if reduce else replica.no_sync():  # type: ignore[operator]
                yield
        except RuntimeError as error:
            # Much else in these passes raises RuntimeError, and gloo's errors only differ by their text.
            if isinstance(error, dist.DistError) or "gloo" in str(error):
                raise PeerLost(str(error)) from error
            raise

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

    def from_rank_0(self, number: int) -> int:
        """The number that rank 0 passes."""
        if self.size == 1:
            return number
        shared = torch.tensor(number)
        with _peers_needed():
            dist.broadcast(shared, 0, group=self.host)
        return int(shared)

    def barrier(self) -> None:
        """Waits for all processes.

        Raises:
            PeerLost: a process is gone; the operations above raise this as well.
        """
        self.any(False)


SINGLE_PROCESS = DistributedContext()


class _Replica(nn.Module):
    """Calls functions of a model as a forward pass, because only that prepares DDP for the backward pass."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., Tensor], *arguments: Any) -> Tensor:
        return function(self.model, *arguments)


def _sum_of_weights(model: nn.Module) -> Tensor:
    return torch.stack([weight.sum() for weight in model.parameters() if weight.requires_grad]).sum()


@contextmanager
def _peers_needed() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo has no narrower one
        raise PeerLost(str(error)) from error
