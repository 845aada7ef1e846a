import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from components.shared.base.failure import ExitCode, Failure, Interrupted
from components.shared.storage.manifest import Manifest
from components.train.checkpoint import State
from components.train.data import TokenSplit, TrainBatches
from components.train.loop import budget, train, validation_loss
from components.train.settings import TrainSettings
from tests.components.train.conftest import open_tiny, tiny

CPU = torch.device("cpu")


def run(settings: TrainSettings, tokens: Manifest, folder: Path, **more) -> tuple[torch.nn.Module, list[dict]]:
    model, corpus = open_tiny(settings, tokens, folder)
    rows: list[dict] = []
    train(model, corpus, settings, steps=settings.steps, device=CPU, observe=rows.append, **more)
    return model, rows


def column(rows: list[dict], name: str) -> list[float]:
    return [row[name] for row in rows if name in row]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_it_learns(optimizer: str, tokens: Manifest, tokens_dir: Path) -> None:
    settings = tiny(optimizer=optimizer, steps=40, evaluate_every=20, log_every=10, warmup_steps=2)
    _, rows = run(settings, tokens, tokens_dir)
    assert [row["step"] for row in rows if "loss" in row] == [1, 10, 20, 30, 40]
    losses = column(rows, "loss")
    assert losses[0] == pytest.approx(math.log(tokens.metadata["vocab_size"]), abs=0.2)
    assert losses[-1] < losses[0] - 1.5
    assert column(rows, "validation_loss")[1] < column(rows, "validation_loss")[0]
    assert all(value > 0 for name in ("tokens_per_second", "gradient_norm") for value in column(rows, name))


def test_parts_of_a_batch_add_up_to_the_batch(tokens: Manifest, tokens_dir: Path) -> None:
    _, whole = run(tiny(), tokens, tokens_dir)
    _, parts = run(tiny(gradient_accumulation_steps=4), tokens, tokens_dir)
    assert column(parts, "loss") == pytest.approx(column(whole, "loss"), rel=1e-4)


def test_a_step_leaves_no_gradient_to_the_next(tokens: Manifest, tokens_dir: Path) -> None:
    class SameBatch:
        def __init__(self, batches: TrainBatches):
            self.batch = lambda step: batches.batch(0)
            self.describe_batch = batches.describe_batch

    settings = tiny(steps=3, learning_rate=1e-12, decay="constant", log_every=1, gradient_clip=None)
    model, corpus = open_tiny(settings, tokens, tokens_dir)
    rows: list[dict] = []
    same = type(corpus)(SameBatch(corpus.train), corpus.validation, corpus.vocab_size)  # type: ignore[arg-type]
    train(model, same, settings, steps=3, device=CPU, observe=rows.append)
    norms = column(rows, "gradient_norm")
    assert norms == pytest.approx([norms[0]] * 3, rel=1e-4)


def test_equal_settings_give_equal_weights_and_another_seed_others(tokens: Manifest, tokens_dir: Path) -> None:
    settings = tiny(dropout=0.2, embedding_dropout=0.2, ema_decay=0.9)
    (one, rows), (same, again) = run(settings, tokens, tokens_dir), run(settings, tokens, tokens_dir)
    assert column(rows, "loss") == column(again, "loss")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    _, other = run(tiny(dropout=0.2, embedding_dropout=0.2, ema_decay=0.9, seed=2), tokens, tokens_dir)
    assert column(rows, "loss") != column(other, "loss")


def test_validation_is_one_mean_over_all_tokens(tokens: Manifest, tokens_dir: Path) -> None:
    settings = tiny(validation_tokens=None, sequence_length=16, global_batch_size=4)
    model, corpus = open_tiny(settings, tokens, tokens_dir)
    losses, counts = [], []
    for inputs, targets, scored in corpus.validation.batches(1):
        log = model.eval()(input_ids=inputs).logits[..., : corpus.vocab_size].double().log_softmax(-1)
        losses += [-log.gather(-1, targets[..., None])[..., 0][scored].sum().item()]
        counts += [int(scored.sum())]
    assert len(set(counts)) > 1, "blocks of unequal weight are what this is about"
    assert sum(counts) == tokens.metadata["splits"]["validation"]["tokens"]
    assert validation_loss(model, corpus, settings) == pytest.approx(sum(losses) / sum(counts), rel=1e-6)


def test_early_stopping_hands_on_the_best_weights(tokens: Manifest, tokens_dir: Path) -> None:
    settings = tiny(steps=200, learning_rate=0.3, decay="constant", gradient_clip=None, evaluate_every=2, patience=3)
    model, corpus = open_tiny(settings, tokens, tokens_dir)
    progress = train(model, corpus, settings, steps=200, device=CPU)
    values = column(progress.history, "validation_loss")
    assert progress.stopped_early and progress.step < 200
    assert progress.best_step == progress.step - 3 * 2
    assert progress.best_loss == min(values) < values[-1]
    assert validation_loss(model, corpus, settings) == progress.best_loss


def test_the_averaged_weights_are_evaluated_and_saved(tokens: Manifest, tokens_dir: Path) -> None:
    settings = tiny(ema_decay=0.9)
    model, corpus = open_tiny(settings, tokens, tokens_dir)
    progress = train(model, corpus, settings, steps=8, device=CPU)
    plain, _ = run(tiny(), tokens, tokens_dir)
    assert validation_loss(model, corpus, settings) == progress.best_loss
    assert validation_loss(plain, corpus, settings) != progress.best_loss


def test_a_loss_that_is_no_number_names_step_rate_and_place(tokens: Manifest, tokens_dir: Path) -> None:
    settings = tiny(steps=40, log_every=5)
    model, corpus = open_tiny(settings, tokens, tokens_dir)
    poisoned = corpus.train.batch(2)[0][0, 0].item()

    def poison(module: torch.nn.Module, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
        return output if (inputs[0] != poisoned).all() else output * float("nan")

    model.get_input_embeddings().register_forward_hook(poison)
    first = next(s for s in range(40) if (corpus.train.batch(s)[0] == poisoned).any())
    with pytest.raises(Failure) as caught:
        train(model, corpus, settings, steps=40, device=CPU)
    assert f"The loss is nan in step {first + 1} " in caught.value.what
    assert "learning rate" in caught.value.what
    assert caught.value.where == corpus.train.describe_batch(first)


def test_full_memory_says_what_to_lower(tokens: Manifest, tokens_dir: Path) -> None:
    settings = tiny()
    model, corpus = open_tiny(settings, tokens, tokens_dir)
    model.get_input_embeddings().register_forward_hook(lambda *_: torch.empty(1 << 60, dtype=torch.uint8))
    with pytest.raises(Failure) as caught:
        train(model, corpus, settings, steps=8, device=CPU)
    assert "Memory is full with a batch of 4 sequences of 16 tokens in 1 micro-batches" in caught.value.what
    assert "train.gradient_accumulation_steps" in caught.value.remedy


@pytest.mark.parametrize(
    ("values", "steps"),
    [
        ({"steps": 7}, 7),
        ({"steps": None, "epochs": 2}, 20),
        ({"steps": None, "epochs": 0.25}, 3),
        ({"steps": None, "tokens": 65}, 2),
        ({"steps": 7, "epochs": 2, "tokens": 64}, 1),
    ],
)
def test_the_smallest_budget_ends_it(values: dict, steps: int) -> None:
    assert budget(tiny(**values), steps_per_epoch=10) == steps


@pytest.fixture
def deterministic() -> Iterator[None]:
    """`components.train.device.prepare` sets it in the step: without it, compiled training differs from run to run."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.slow
def test_compiled_training_is_the_same_training_and_repeats_itself(
    tokens: Manifest, tokens_dir: Path, deterministic: None
) -> None:
    _, eager = run(tiny(), tokens, tokens_dir)
    runs = []
    for _ in range(2):
        torch.compiler.reset()  # a step compiles once in its process; a second compilation may order sums otherwise
        runs.append(column(run(tiny(compile=True), tokens, tokens_dir)[1], "loss"))
    assert runs[0] == runs[1]
    assert runs[0] == pytest.approx(column(eager, "loss"), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("size", [None, 128])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_compiled_step_is_one_graph(precision: str, size: int | None, tokens: Manifest, tokens_dir: Path) -> None:
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    run(tiny(compile=True, precision=precision, embedding_dropout=0.1, sampled_softmax=size), tokens, tokens_dir)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


def test_an_epoch_is_what_the_split_holds(tokens: Manifest, tokens_dir: Path) -> None:
    split = TokenSplit.open(tokens_dir, "train", tokens.metadata["dtype"], tokens.metadata["eos_id"])
    order = TrainBatches(split, sequence_length=16, batch_size=4, seed=1, device=CPU)
    assert order.steps_per_epoch == (split.ids_length - 16) // 16 // 4


@pytest.mark.parametrize("architecture", ["qwen3", "gpt2"])
def test_validation_in_bfloat16_has_a_float32_output_layer(
    architecture: str, tokens: Manifest, tokens_dir: Path
) -> None:
    settings = tiny(precision="bfloat16", architecture=architecture)
    model, corpus = open_tiny(settings, tokens, tokens_dir)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(20)  # logits as large as those of a trained model
    losses, rounded, counts = [], [], []
    for inputs, targets, scored in corpus.validation.batches(settings.global_batch_size):
        with torch.no_grad():
            with torch.autocast("cpu", torch.bfloat16):
                hidden = model.eval().base_model(input_ids=inputs).last_hidden_state
            logits = model.get_output_embeddings()(hidden.float())[..., : corpus.vocab_size]
        for each, found in ((logits, losses), (logits.bfloat16().float(), rounded)):
            log = each.double().log_softmax(-1)
            found.append(-log.gather(-1, targets[..., None])[..., 0][scored].sum().item())
        counts.append(int(scored.sum()))
    expected = sum(losses) / sum(counts)
    assert validation_loss(model, corpus, settings) == pytest.approx(expected, abs=1e-6)
    assert abs(sum(rounded) / sum(counts) - expected) > 1e-5, "rounding would be seen"


class InMemory:
    """A checkpointer in memory.

    Args:
        due: the steps at which a checkpoint is due.
        fails: the step from which saving fails.
    """

    def __init__(self, *due: int, fails: int = 1000, saved: int | None = None):
        self.steps, self.fails, self.saved = due, fails, saved

    def should_save(self, step: int) -> bool:
        return step in self.steps

    def save(self, state: State, *, wait: bool = False) -> None:
        if state.progress.step >= self.fails:
            raise Failure("The store is away", where="s3://bucket", remedy="look at it", exit_code=ExitCode.UNREACHABLE)
        self.saved = state.progress.step


@pytest.mark.parametrize(
    ("checkpointer", "kind", "sentence"),
    [
        (None, Interrupted, "Training was interrupted after step 3 of 8; no checkpoint was saved yet"),
        (InMemory(), Interrupted, "Training was interrupted after step 3 of 8; the last checkpoint is of step 3"),
        (
            InMemory(2, fails=3),
            Failure,
            "Training was interrupted after step 3 of 8 and its state could not be saved, The store is away;"
            " the last checkpoint is of step 2",
        ),
        (
            InMemory(fails=3),
            Failure,
            "Training was interrupted after step 3 of 8 and its state could not be saved, The store is away;"
            " no checkpoint was saved yet",
        ),
    ],
)
def test_an_interruption_says_from_which_step_training_resumes(
    checkpointer: InMemory | None, kind: type[Failure], sentence: str, tokens: Manifest, tokens_dir: Path
) -> None:
    asked = iter([False, False, True])
    with pytest.raises(Failure) as caught:
        run(tiny(), tokens, tokens_dir, checkpointer=checkpointer, stop_requested=lambda: next(asked))
    assert (type(caught.value), caught.value.what) == (kind, sentence)
    away = kind is Failure
    assert caught.value.exit_code == (ExitCode.UNREACHABLE if away else ExitCode.RESUMABLE)


@pytest.mark.parametrize("due", [(), (1,), (3, 5), (1, 2, 3, 4, 5, 6, 7)])
def test_no_checkpoint_changes_the_training_whenever_it_is(due: tuple, tokens: Manifest, tokens_dir: Path) -> None:
    settings = tiny(log_every=3, ema_decay=0.9, dropout=0.1)
    (plain, rows), (model, kept) = (
        run(settings, tokens, tokens_dir),
        run(settings, tokens, tokens_dir, checkpointer=InMemory(*due)),
    )
    for name in ("loss", "gradient_norm", "validation_loss"):
        assert column(kept, name) == column(rows, name)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), model.parameters(), strict=True))
