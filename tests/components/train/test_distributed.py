"""Gradients are averaged in buckets during the backward pass: once per step, and in the same buckets from the start."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from components.train.distributed import SINGLE_PROCESS, DistributedContext, PeerLost

WIDTH = 600  # a matrix is larger than the first bucket, which holds 1 MiB


@pytest.fixture
def distributed() -> Iterator[DistributedContext]:
    """A group of one process that acts as one of two."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield DistributedContext(0, 2)
    dist.destroy_process_group()


def three_layers() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(3)))


def loss(model: nn.Module, rows: torch.Tensor) -> torch.Tensor:
    return model(rows).pow(2).mean()


def watch_buckets(replica: Any, events: list[Any]) -> None:
    """Records the weights of every bucket when it is reduced."""

    def hook(state: object, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        events.append([id(weight) for weight in bucket.parameters()])
        return dist.all_reduce(bucket.buffer(), async_op=True).get_future().then(lambda done: done.value()[0])

    replica.register_comm_hook(None, hook)


def test_the_last_layer_is_reduced_before_the_others_have_gradients(distributed: DistributedContext) -> None:
    model, events = three_layers(), list[Any]()
    replica = distributed.replicate(model)
    watch_buckets(replica, events)
    model[1].register_full_backward_hook(lambda *_: events.append("second layer"))
    with distributed.backward(replica, reduce=True):
        replica(loss, torch.ones(2, WIDTH)).backward()
    first, second, third = (id(layer.weight) for layer in model)
    assert events == [[third], "second layer", [second, first]]


def test_micro_batches_are_reduced_once_and_add_up(distributed: DistributedContext) -> None:
    model, alone, events = three_layers(), three_layers(), list[Any]()
    replica = distributed.replicate(model)
    watch_buckets(replica, events)
    rows = torch.randn(4, WIDTH)
    for part in (slice(0, 2), slice(2, 4)):
        before = len(events)
        with distributed.backward(replica, reduce=part.stop == 4):
            (replica(loss, rows[part]) / 2).backward()
        assert bool(events[before:]) == (part.stop == 4)
    loss(alone, rows).backward()
    for ours, theirs in zip(model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_resumed_training_has_the_same_buckets_from_its_first_step(distributed: DistributedContext) -> None:
    """Otherwise sums over three or more processes would be rounded in another way than without the interruption."""
    model = three_layers()
    replica = distributed.replicate(model)
    assert all(weight.grad is None for weight in model.parameters())
    steps = []
    events: list[Any] = []
    watch_buckets(replica, events)
    for _ in range(3):
        replica(loss, torch.ones(2, WIDTH)).backward()
        steps.append(list(events))
        events.clear()
    assert len(steps[0]) > 1
    assert steps[0] == steps[1] == steps[2]


def test_a_compiled_loss_is_cut_at_the_buckets(distributed: DistributedContext) -> None:
    """The gradients of one compiled graph are ready only at its end."""
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(loss, backend=backend, dynamic=False, fullgraph=True)
    replica = distributed.replicate(three_layers())
    for number in range(3):
        with distributed.backward(replica, reduce=number > 0):
            replica(compiled, torch.ones(2, WIDTH)).backward()
    assert 1 < len(graphs) <= 3, "and a micro-batch that is not reduced compiles nothing anew"
    torch._dynamo.reset()


def test_only_errors_of_the_exchange_are_a_lost_peer(distributed: DistributedContext) -> None:
    replica = distributed.replicate(three_layers())
    gloo = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:538] Connection closed by peer [10.0.0.2]:4242"
    with pytest.raises(PeerLost, match="closed by peer"), distributed.backward(replica, reduce=True):
        raise RuntimeError(gloo)
    with pytest.raises(torch.OutOfMemoryError), distributed.backward(replica, reduce=True):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="shapes"), distributed.backward(replica, reduce=True):
        raise RuntimeError("shapes cannot be multiplied")


def test_one_process_needs_no_group() -> None:
    model = three_layers()
    replica = SINGLE_PROCESS.replicate(model)
    with SINGLE_PROCESS.backward(replica, reduce=True):
        replica(loss, torch.ones(2, WIDTH)).backward()
    assert all(weight.grad is not None for weight in model.parameters())
