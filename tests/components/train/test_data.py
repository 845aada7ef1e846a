import ast
import importlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from components.shared.base.failure import Failure
from components.shared.storage.manifest import Manifest
from components.train.data import Draw, Split, TrainOrder, ValidationBlocks, seed_of

CPU = torch.device("cpu")
START = 0


def numbered(articles: int, length: int, start_id: int | None = START) -> Split:
    """Articles whose tokens all differ, so that a token tells where it comes from."""
    bounds = np.arange(articles + 1, dtype=np.int64) * length
    return Split(np.arange(1, articles * length + 1, dtype=np.uint16), bounds, start_id)


def all_inputs(order: TrainOrder, epoch: int) -> torch.Tensor:
    first = epoch * order.steps_per_epoch
    return torch.cat([order.inputs_and_targets(first + i)[0] for i in range(order.steps_per_epoch)])


def test_a_target_is_the_token_after_its_input() -> None:
    split = numbered(1, 100, start_id=None)
    inputs, targets = TrainOrder(split, block=8, batch=4, seed=1, device=CPU).inputs_and_targets(0)
    assert inputs.shape == targets.shape == (4, 8)
    assert torch.equal(targets, inputs + 1)


def test_an_epoch_reads_every_token_at_most_once_and_nearly_all_of_them() -> None:
    order = TrainOrder(numbered(10, 100), block=8, batch=4, seed=1, device=CPU)
    seen = all_inputs(order, 0)
    text = seen[seen != START]
    assert len(text.unique()) == len(text)
    assert seen.numel() >= order.split.stream_length - 8 * (4 + 1)


def test_every_article_begins_with_the_start_token() -> None:
    split = numbered(3, 5)
    assert split.text.tolist() == [0, 1, 2, 3, 4, 5, 0, 6, 7, 8, 9, 10, 0, 11, 12, 13, 14, 15]
    assert len(split.text) == split.stream_length
    assert split.bounds.tolist() == [0, 6, 12, 18]
    assert numbered(3, 5, None).text.tolist() == list(range(1, 16))
    assert numbered(3, 5, None).bounds.tolist() == [0, 5, 10, 15]


@pytest.mark.parametrize("start_id", [None, START])
@pytest.mark.parametrize("lengths", [[7, 1, 30, 12, 2, 50], [5, 0, 40, 0, 60]])
def test_blocks_are_cut_from_the_articles_one_after_the_other(start_id: int | None, lengths: list[int]) -> None:
    """As if the shuffled articles had been joined: blocks cross from one into the next, whatever their lengths."""
    bounds = np.cumsum([0, *lengths])
    split = Split(np.arange(1, bounds[-1] + 1, dtype=np.uint16), bounds, start_id)
    order = TrainOrder(split, block=8, batch=2, seed=1, device=CPU)
    for number in range(3):
        epoch = order.epoch(number)
        start = [] if start_id is None else [start_id]
        joined = [
            t for article in epoch.order for t in start + split.tokens[bounds[article] :][: lengths[article]].tolist()
        ]
        for step in range(order.steps_per_epoch):
            inputs, targets = order.inputs_and_targets(number * order.steps_per_epoch + step)
            for row, at in enumerate(epoch.starts[2 * step : 2 * step + 2].tolist()):
                assert inputs[row].tolist() == joined[at : at + 8]
                assert targets[row].tolist() == joined[at + 1 : at + 9]


def test_an_epoch_costs_no_memory_of_the_size_of_the_split() -> None:
    split = numbered(100, 20_000)
    order = TrainOrder(split, block=256, batch=8, seed=1, device=CPU)
    order.inputs_and_targets(0)
    tracemalloc.start()
    try:
        for number in range(1, 4):
            order.inputs_and_targets(number * order.steps_per_epoch)
        assert tracemalloc.get_traced_memory()[1] < split.tokens.nbytes / 4
    finally:
        tracemalloc.stop()
    kept = sum(value.numel() for value in vars(order.epoch(3)).values() if isinstance(value, torch.Tensor))
    assert kept < len(split.tokens) / 100


@pytest.mark.parametrize("start_id", [None, START])
def test_counts_are_those_of_the_whole_text(start_id: int | None) -> None:
    split = numbered(3, 5, start_id)
    assert split.counts(20).tolist() == np.bincount(split.text, minlength=20).tolist()


def test_epochs_differ_in_the_order_of_articles_and_in_where_blocks_begin() -> None:
    order = TrainOrder(numbered(10, 100), block=8, batch=4, seed=1, device=CPU)
    first, second = order.epoch(0), order.epoch(1)
    assert first.order.tolist() != second.order.tolist()
    assert {int(start) % 8 for start in first.starts} != {int(start) % 8 for start in second.starts}


def test_the_order_is_a_function_of_the_seed_and_the_step() -> None:
    one, same, other = (TrainOrder(numbered(10, 100), block=8, batch=4, seed=seed, device=CPU) for seed in (1, 1, 2))
    step = one.steps_per_epoch + 3
    same.inputs_and_targets(0)
    assert torch.equal(one.inputs_and_targets(step)[0], same.inputs_and_targets(step)[0])
    assert not torch.equal(one.inputs_and_targets(step)[0], other.inputs_and_targets(step)[0])


def test_the_data_order_is_that_of_every_release_of_numpy() -> None:
    """Values of NumPy 2.4.6, pinned; what they are made of is guaranteed, see `Draw`."""
    order = TrainOrder(numbered(10, 100), block=8, batch=4, seed=1, device=CPU)
    assert order.epoch(0).order.tolist() == [2, 0, 1, 4, 5, 6, 7, 8, 3, 9]
    assert order.epoch(0).starts[:8].tolist() == [242, 74, 66, 922, 82, 810, 330, 314]
    assert order.epoch(1).order.tolist() == [7, 1, 6, 9, 3, 5, 0, 8, 2, 4]
    assert order.epoch(1).starts[:8].tolist() == [972, 804, 860, 284, 556, 236, 372, 636]
    assert order.inputs_and_targets(0)[0][0].tolist() == list(range(140, 148))
    assert (seed_of(1, 2), seed_of(1, 5, 3)) == (15529898885419721899, 17584431576607206822)


def test_the_bits_are_those_of_the_published_generator() -> None:
    """The first known answer of philox4x64-10 in Random123: counter and key of zeros. NumPy counts before it draws."""
    draw = Draw(0)
    draw.bits = np.random.Philox(key=0, counter=2**256 - 1)
    known = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    assert draw.bits.random_raw(4).tolist() == known
    draw.bits = np.random.Philox(key=0, counter=2**256 - 1)
    assert draw.permutation(4).tolist() == sorted(range(4), key=lambda index: known[index])
    draw.bits = np.random.Philox(key=0, counter=2**256 - 1)
    assert draw.below(1000) == known[0] % 1000


def test_permutations_are_even() -> None:
    first = np.bincount([Draw(seed, 0).permutation(5)[0] for seed in range(5000)], minlength=5)
    assert first.min() > 900 and first.max() < 1100  # 1000 expected, standard deviation 28


@pytest.mark.parametrize("step", ["train", "evaluate"])
def test_nothing_is_drawn_by_what_numpy_may_change(step: str) -> None:
    """Of `numpy.random` only bit generators and their seeding have a stream that is guaranteed."""
    used = set()
    for path in Path(importlib.import_module(f"components.{step}").__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("np.random", "numpy.random"):
                used.add(node.attr)
    assert used <= {"Philox", "SeedSequence"}


def test_the_parts_of_a_step_are_the_step() -> None:
    order = TrainOrder(numbered(10, 100), block=8, batch=4, seed=1, device=CPU)
    parts = [order.inputs_and_targets(5, slice(start, start + 2))[0] for start in (0, 2)]
    assert torch.equal(torch.cat(parts), order.inputs_and_targets(5)[0])


def test_the_place_of_a_step_names_the_articles_of_its_tokens() -> None:
    order = TrainOrder(numbered(10, 100), block=8, batch=1, seed=1, device=CPU)
    inputs, _ = order.inputs_and_targets(7)
    article = (int(inputs[inputs != START][0]) - 1) // 100
    assert f"articles {article} of the train split" in order.place(7) or f"articles {article}," in order.place(7)


def test_a_corpus_smaller_than_a_step_is_refused() -> None:
    with pytest.raises(Failure, match="has 100 tokens, less than a step of 32 blocks of 8"):
        TrainOrder(numbered(1, 100), block=8, batch=32, seed=1, device=CPU)


def test_validation_scores_every_token_of_the_text_once_but_the_first_of_all() -> None:
    blocks = ValidationBlocks(numbered(3, 21), block=8, limit=None, device=CPU)
    scored = [targets[counts] for _, targets, counts in blocks.batches(4)]
    assert sorted(torch.cat(scored).tolist()) == list(range(1, 64))


def test_a_limit_spreads_validation_over_the_whole_split() -> None:
    blocks = ValidationBlocks(numbered(10, 100), block=8, limit=64, device=CPU)
    starts = [start for start, _ in blocks.bounds]
    assert len(starts) == 8
    assert starts[0] < 100 and starts[-1] > 800


def test_processes_share_validation_without_overlap() -> None:
    blocks = ValidationBlocks(numbered(3, 21), block=8, limit=None, device=CPU)
    shares = [{tuple(row) for inputs, _, _ in blocks.batches(4, rank, 2) for row in inputs.tolist()} for rank in (0, 1)]
    assert not shares[0] & shares[1]
    assert len(shares[0] | shares[1]) == len(blocks.bounds)


def test_the_tokens_of_a_folder_are_read_as_they_were_written(tokens_dir: Path, tokens: Manifest) -> None:
    from transformers import AutoTokenizer

    split = Split.open(tokens_dir, "validation", tokens.metadata["dtype"], None)
    text = AutoTokenizer.from_pretrained(tokens_dir / "tokenizer").decode(split.text)
    assert text == (tokens_dir.parent / "corpus" / "validation.txt").read_text()
