from pathlib import Path

import numpy as np
import pytest
import torch

from components.shared.failure import Failure
from components.shared.storage.manifest import Manifest
from components.train.data import Split, TrainOrder, ValidationBlocks

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
    stream = numbered(3, 5).stream(np.array([2, 0, 1]))
    assert stream.tolist() == [0, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 0, 6, 7, 8, 9, 10]
    assert len(stream) == numbered(3, 5).stream_length


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

    split = Split.open(tokens_dir, "validation", tokens.facts["dtype"], None)
    text = AutoTokenizer.from_pretrained(tokens_dir / "tokenizer").decode(split.stream(np.arange(3)))
    assert text == (tokens_dir.parent / "corpus" / "validation.txt").read_text()
