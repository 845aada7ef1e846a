"""What the processes of one training tell each other; a process alone tells itself nothing, at no cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


class PeerLost(Exception):
    """Another process of the training is gone, so that what takes all of them cannot be done."""


@dataclass(frozen=True)
class Group:
    """One process among those that train together.

    Attributes:
        rank: its number; 0 speaks for all.
        size: how many there are.
        host: the process group over host memory, whose calls do not wait for the device.
    """

    rank: int = 0
    size: int = 1
    host: dist.ProcessGroup | None = None

    def share(self, total: int) -> slice:
        """This process's part of a batch, in order."""
        part = total // self.size
        return slice(self.rank * part, (self.rank + 1) * part)

    def mean(self, tensors: Iterable[Tensor]) -> None:
        """Replaces tensors, in place, by their mean over the processes."""
        if self.size == 1:
            return
        tensors = list(tensors)
        with _peers_needed():
            for handle in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
                handle.wait()
        torch._foreach_div_(tensors, self.size)

    def sum(self, tensor: Tensor) -> Tensor:
        """Replaces a tensor, in place, by its sum over the processes."""
        if self.size > 1:
            with _peers_needed():
                dist.all_reduce(tensor)
        return tensor

    def any(self, *flags: bool) -> list[bool]:
        """For each flag whether any process raises it; all of them get the same answer."""
        if self.size == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.int)
        with _peers_needed():
            dist.all_reduce(raised, op=dist.ReduceOp.MAX, group=self.host)
        return [bool(flag) for flag in raised.tolist()]

    def wait(self) -> None:
        """Waits until all processes are here.

        Raises:
            PeerLost: one of them will never come; so do the calls above.
        """
        self.any(False)


ALONE = Group()


@contextmanager
def _peers_needed() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo has no narrower one
        raise PeerLost(str(error)) from error
