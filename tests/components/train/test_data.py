import ast
import importlib
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from components.shared.base.failure import Failure
from components.shared.storage.manifest import Manifest
from components.train.data import StableRandom, TokenSplit, TrainBatches, ValidationBatches, fits_on, seed_of

CPU = torch.device("cpu")
START = 0


def numbered(articles: int, length: int, eos_id: int | None = START) -> TokenSplit:
    """Articles whose tokens all differ, so that a token identifies its position."""
    bounds = np.arange(articles + 1, dtype=np.int64) * length
    return TokenSplit(np.arange(1, articles * length + 1, dtype=np.uint16), bounds, eos_id)


def all_inputs(batches: TrainBatches, epoch: int) -> torch.Tensor:
    first = epoch * batches.steps_per_epoch
    return torch.cat([batches.batch(first + i)[0] for i in range(batches.steps_per_epoch)])


def test_a_target_is_the_token_after_its_input() -> None:
    split = numbered(1, 100, eos_id=None)
    inputs, targets = TrainBatches(split, sequence_length=8, batch_size=4, seed=1, device=CPU).batch(0)
    assert inputs.shape == targets.shape == (4, 8)
    assert torch.equal(targets, inputs + 1)


def test_an_epoch_reads_every_token_at_most_once_and_nearly_all_of_them() -> None:
    batches = TrainBatches(numbered(10, 100), sequence_length=8, batch_size=4, seed=1, device=CPU)
    seen = all_inputs(batches, 0)
    text = seen[seen != START]
    assert len(text.unique()) == len(text)
    assert seen.numel() >= batches.split.ids_length - 8 * (4 + 1)


def test_every_article_begins_with_the_start_token() -> None:
    split = numbered(3, 5)
    assert split.ids.tolist() == [0, 1, 2, 3, 4, 5, 0, 6, 7, 8, 9, 10, 0, 11, 12, 13, 14, 15]
    assert len(split.ids) == split.ids_length
    assert split.bounds.tolist() == [0, 6, 12, 18]
    assert numbered(3, 5, None).ids.tolist() == list(range(1, 16))
    assert numbered(3, 5, None).bounds.tolist() == [0, 5, 10, 15]


@pytest.mark.parametrize("eos_id", [None, START])
@pytest.mark.parametrize("lengths", [[7, 1, 30, 12, 2, 50], [5, 0, 40, 0, 60]])
def test_blocks_are_cut_from_the_articles_one_after_the_other(eos_id: int | None, lengths: list[int]) -> None:
    """The sequences are those of the joined shuffled articles: they cross from one article into the next."""
    bounds = np.cumsum([0, *lengths])
    split = TokenSplit(np.arange(1, bounds[-1] + 1, dtype=np.uint16), bounds, eos_id)
    batches = TrainBatches(split, sequence_length=8, batch_size=2, seed=1, device=CPU)
    for number in range(3):
        epoch = batches.epoch(number)
        start = [] if eos_id is None else [eos_id]
        joined = [
            t for article in epoch.order for t in start + split.tokens[bounds[article] :][: lengths[article]].tolist()
        ]
        for step in range(batches.steps_per_epoch):
            inputs, targets = batches.batch(number * batches.steps_per_epoch + step)
            for row, at in enumerate(epoch.starts[2 * step : 2 * step + 2].tolist()):
                assert inputs[row].tolist() == joined[at : at + 8]
                assert targets[row].tolist() == joined[at + 1 : at + 9]


def test_an_epoch_costs_no_memory_of_the_size_of_the_split() -> None:
    split = numbered(100, 20_000)
    batches = TrainBatches(split, sequence_length=256, batch_size=8, seed=1, device=CPU)
    batches.batch(0)
    tracemalloc.start()
    try:
        for number in range(1, 4):
            batches.batch(number * batches.steps_per_epoch)
        assert tracemalloc.get_traced_memory()[1] < split.tokens.nbytes / 4
    finally:
        tracemalloc.stop()
    kept = sum(value.numel() for value in vars(batches.epoch(3)).values() if isinstance(value, torch.Tensor))
    assert kept < len(split.tokens) / 100


@pytest.mark.parametrize("eos_id", [None, START])
def test_counts_are_those_of_the_whole_text(eos_id: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    split = numbered(3, 5, eos_id)
    monkeypatch.setattr("components.train.data._COUNTED", 7)
    assert split.counts(20).tolist() == np.bincount(split.ids, minlength=20).tolist()


@pytest.mark.parametrize("eos_id", [None, START])
@pytest.mark.parametrize("lengths", [[7, 1, 30], [0, 5, 0, 4, 0], [3]])
def test_ids_that_are_read_from_the_file_are_the_ids(eos_id: int | None, lengths: list[int]) -> None:
    bounds = np.cumsum([0, *lengths])
    split = TokenSplit(np.arange(1, bounds[-1] + 1, dtype=np.uint16), bounds, eos_id)
    ids = split.ids
    order = np.random.default_rng(1).permutation(len(ids)).reshape(1, -1)
    assert split.take(order).tolist() == ids[order].tolist()
    assert split.take(order).dtype == ids.dtype == np.int32
    for count in range(len(ids) + 3):
        assert split.head(count).tolist() == ids[:count].tolist()


@pytest.mark.parametrize("eos_id", [None, START])
def test_batches_from_the_file_are_those_from_the_device(eos_id: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    split = numbered(10, 100, eos_id)
    mapped = TrainBatches(split, sequence_length=8, batch_size=4, seed=1, device=CPU)
    monkeypatch.setattr("components.train.data.fits_on", lambda device, tokens: True)
    held = TrainBatches(split, sequence_length=8, batch_size=4, seed=1, device=CPU)
    assert mapped.ids is None and held.ids is not None
    for step in (0, 5, mapped.steps_per_epoch + 1):
        for ours, theirs in zip(mapped.batch(step), held.batch(step), strict=True):
            assert torch.equal(ours, theirs) and ours.dtype == theirs.dtype == torch.int64


def test_a_gpu_holds_the_tokens_if_they_leave_most_of_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SimpleNamespace(total_memory=80 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    gpu = torch.device("cuda", 0)
    assert fits_on(gpu, 2_000_000_000)
    assert not fits_on(gpu, 3_000_000_000)
    assert not fits_on(CPU, 1)


@pytest.mark.parametrize("eos_id", [None, START])
def test_a_split_that_is_read_from_the_file_takes_no_memory(tmp_path: Path, eos_id: int | None) -> None:
    np.arange(4_000_000, dtype=np.uint16).tofile(tmp_path / "train.bin")
    np.save(tmp_path / "train.articles.npy", np.arange(0, 4_000_001, 40_000))
    tracemalloc.start()
    try:
        split = TokenSplit.open(tmp_path, "train", "uint16", eos_id)
        TrainBatches(split, sequence_length=256, batch_size=8, seed=1, device=CPU).batch(3)
        split.head(1000)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_epochs_differ_in_the_order_of_articles_and_in_where_blocks_begin() -> None:
    batches = TrainBatches(numbered(10, 100), sequence_length=8, batch_size=4, seed=1, device=CPU)
    first, second = batches.epoch(0), batches.epoch(1)
    assert first.order.tolist() != second.order.tolist()
    assert {int(start) % 8 for start in first.starts} != {int(start) % 8 for start in second.starts}


def test_the_order_is_a_function_of_the_seed_and_the_step() -> None:
    one, same, other = (
        TrainBatches(numbered(10, 100), sequence_length=8, batch_size=4, seed=seed, device=CPU) for seed in (1, 1, 2)
    )
    step = one.steps_per_epoch + 3
    same.batch(0)
    assert torch.equal(one.batch(step)[0], same.batch(step)[0])
    assert not torch.equal(one.batch(step)[0], other.batch(step)[0])


def test_the_data_order_is_that_of_every_release_of_numpy() -> None:
    """Pinned values of NumPy 2.4.6; their sources are guaranteed to be stable, see `StableRandom`."""
    batches = TrainBatches(numbered(10, 100), sequence_length=8, batch_size=4, seed=1, device=CPU)
    assert batches.epoch(0).order.tolist() == [2, 0, 1, 4, 5, 6, 7, 8, 3, 9]
    assert batches.epoch(0).starts[:8].tolist() == [242, 74, 66, 922, 82, 810, 330, 314]
    assert batches.epoch(1).order.tolist() == [7, 1, 6, 9, 3, 5, 0, 8, 2, 4]
    assert batches.epoch(1).starts[:8].tolist() == [972, 804, 860, 284, 556, 236, 372, 636]
    assert batches.batch(0)[0][0].tolist() == list(range(140, 148))
    assert (seed_of(1, 2), seed_of(1, 5, 3)) == (15529898885419721899, 17584431576607206822)


def test_the_bits_are_those_of_the_published_generator() -> None:
    """The first known answer of philox4x64-10 in Random123: counter and key of zeros. NumPy counts before it draws."""
    draw = StableRandom(0)
    draw.bits = np.random.Philox(key=0, counter=2**256 - 1)
    known = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    assert draw.bits.random_raw(4).tolist() == known
    draw.bits = np.random.Philox(key=0, counter=2**256 - 1)
    assert draw.permutation(4).tolist() == sorted(range(4), key=lambda index: known[index])
    draw.bits = np.random.Philox(key=0, counter=2**256 - 1)
    assert draw.below(1000) == known[0] % 1000


def test_permutations_are_even() -> None:
    first = np.bincount([StableRandom(seed, 0).permutation(5)[0] for seed in range(5000)], minlength=5)
    assert first.min() > 900 and first.max() < 1100  # 1000 expected, standard deviation 28


@pytest.mark.parametrize("step", ["train", "evaluate"])
def test_random_numbers_use_only_stable_functions_of_numpy(step: str) -> None:
    """In `numpy.random` only the streams of bit generators and their seeding are guaranteed to be stable."""
    used = set()
    for path in Path(importlib.import_module(f"components.{step}").__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("np.random", "numpy.random"):
                used.add(node.attr)
    assert used <= {"Philox", "SeedSequence"}


def test_the_place_of_a_step_names_the_articles_of_its_tokens() -> None:
    batches = TrainBatches(numbered(10, 100), sequence_length=8, batch_size=1, seed=1, device=CPU)
    inputs, _ = batches.batch(7)
    article = (int(inputs[inputs != START][0]) - 1) // 100
    assert f"articles {article} of the train split" in batches.describe_batch(
        7
    ) or f"articles {article}," in batches.describe_batch(7)


def test_a_corpus_smaller_than_a_step_is_refused() -> None:
    with pytest.raises(Failure, match="has 100 tokens, less than a batch of 32 sequences of 8"):
        TrainBatches(numbered(1, 100), sequence_length=8, batch_size=32, seed=1, device=CPU)


def test_validation_scores_every_token_of_the_text_once_but_the_first_of_all() -> None:
    blocks = ValidationBatches(numbered(3, 21), sequence_length=8, limit=None, device=CPU)
    scored = [targets[counts] for _, targets, counts in blocks.batches(4)]
    assert sorted(torch.cat(scored).tolist()) == list(range(1, 64))


def test_a_limit_spreads_validation_over_the_whole_split() -> None:
    blocks = ValidationBatches(numbered(10, 100), sequence_length=8, limit=64, device=CPU)
    starts = [start for start, _ in blocks.bounds]
    assert len(starts) == 8
    assert starts[0] < 100 and starts[-1] > 800


def test_processes_share_validation_without_overlap() -> None:
    blocks = ValidationBatches(numbered(3, 21), sequence_length=8, limit=None, device=CPU)
    shares = [{tuple(row) for inputs, _, _ in blocks.batches(4, rank, 2) for row in inputs.tolist()} for rank in (0, 1)]
    assert not shares[0] & shares[1]
    assert len(shares[0] | shares[1]) == len(blocks.bounds)


def test_the_tokens_of_a_folder_are_read_as_they_were_written(tokens_dir: Path, tokens: Manifest) -> None:
    from transformers import AutoTokenizer

    split = TokenSplit.open(tokens_dir, "validation", tokens.metadata["dtype"], None)
    text = AutoTokenizer.from_pretrained(tokens_dir / "tokenizer").decode(split.ids)
    assert text == (tokens_dir.parent / "corpus" / "validation.txt").read_text()
