"""The code accepts what the ranges allow: the real functions are called with the bounds."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from components.evaluate.generate import sampling
from components.evaluate.settings import EvaluateSettings
from components.shared.base.failure import ExitCode, Failure
from components.shared.base.ranges import Range, limits_of
from components.shared.storage.manifest import Manifest
from components.shared.tracking.gate import Rule, Scores, gate
from components.tokenize.settings import TokenizeSettings
from components.tokenize.tokenizer import train_bpe
from components.train.device import count_processes, prepare
from components.train.loop import budget, explain_oom, train
from components.train.optim import build_optimizers, lr_multiplier
from components.train.settings import TrainSettings
from pipelines.cluster.compiling import compile_to
from pipelines.config.settings import check_window, load
from pipelines.local.numerics import pin_numerics
from tests.components.train.conftest import open_tiny, tiny

CPU = torch.device("cpu")
# They determine the length and the size of a training, which the budget and the memory limit.
SIZES = {
    "num_hidden_layers", "hidden_size", "num_attention_heads", "key_value_heads", "intermediate_size",
    "context", "sequence_length", "global_batch_size", "gradient_accumulation_steps",
        "steps", "epochs", "tokens", "processes", "prefix_tokens", "adapter_rank", "adapter_alpha", "adapter_dropout",
}  # fmt: skip


def bounds(kind: type, *names: str) -> list[tuple[str, float]]:
    limits = {name: limit for name, limit in limits_of(kind).items() if isinstance(limit, Range)}
    return [(name, value) for name in names or limits for value in (limits[name].low, limits[name].high)]


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, value in bounds(TrainSettings) if name not in SIZES]
)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_training_at_the_bounds_ends_or_says_that_it_diverged(
    tokens: Manifest,
    tokens_dir: Path,
    name: str,
    value: float,
    optimizer: str,
) -> None:
    settings = tiny(**{"steps": 2, "evaluate_every": 1, "optimizer": optimizer, name: value})
    model, corpus = open_tiny(settings, tokens, tokens_dir)
    try:
        progress = train(model, corpus, settings, steps=2, device=CPU)
    except Failure as failure:
        assert "The loss is" in failure.what or "leaves nothing of" in failure.what
    else:
        assert progress.step <= 2


@pytest.mark.parametrize(("name", "value"), bounds(TrainSettings, "steps", "epochs", "tokens", "warmup_steps"))
def test_a_budget_at_the_bounds_is_a_number_of_steps(name: str, value: float) -> None:
    settings = tiny(**{"steps": None, "epochs": 1e6, name: value})
    steps = budget(settings, steps_per_epoch=10**6)
    assert 1 <= steps <= 10**15
    assert 0 <= lr_multiplier(0, steps, settings) <= 1


@pytest.mark.parametrize(("architecture", "heads", "width"), [("qwen3", 1, 3), ("qwen3", 16, 48), ("gpt2", 16, 41)])
def test_the_nearest_width_makes_a_model_that_learns(
    tokens: Manifest, tokens_dir: Path, architecture: str, heads: int, width: int
) -> None:
    """A head of an odd width caused a traceback, because rotary positions rotate pairs."""
    with pytest.raises(
        ValueError, match=f"hidden_size must be a multiple of .*, got {width}; the nearest is"
    ) as caught:
        tiny(hidden_size=width, num_attention_heads=heads, architecture=architecture)
    nearest = int(str(caught.value).rpartition(" ")[2])
    settings = tiny(steps=1, hidden_size=nearest, num_attention_heads=heads, architecture=architecture)
    model, corpus = open_tiny(settings, tokens, tokens_dir)
    assert train(model, corpus, settings, steps=1, device=CPU).step == 1


def test_the_shortest_blocks_can_be_trained_and_judged(tokens: Manifest, tokens_dir: Path) -> None:
    settings = tiny(steps=1, sequence_length=2, context=2)
    model, corpus = open_tiny(settings, tokens, tokens_dir)
    assert train(model, corpus, settings, steps=1, device=CPU).best_step == 1


@pytest.mark.parametrize("threads", [1, 1024])
def test_threads_at_the_bounds(threads: int) -> None:
    assert prepare(tiny(threads=threads), CPU)["threads"] == threads
    assert torch.ones(64, 64).matmul(torch.ones(64, 64)).sum() == 64**3


def test_more_processes_than_gpus_are_refused_before_they_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(Failure, match=r"train\.processes must be at most the number of GPUs, 2, got 64"):
        count_processes(tiny(device="cuda", global_batch_size=64, processes=64))
    assert count_processes(tiny(device="cuda", global_batch_size=64, processes=2)) == 2


@pytest.mark.parametrize(("name", "value"), bounds(TokenizeSettings))
def test_a_tokenizer_at_the_bounds(name: str, value: int) -> None:
    settings = TokenizeSettings(**{name: value})
    text = "the castle was built in the valley\n" * 50
    made = train_bpe([text], vocab_size=settings.vocab_size, min_frequency=settings.min_frequency)
    assert 257 <= made.get_vocab_size() <= max(settings.vocab_size, 260)


@pytest.mark.parametrize(("name", "value"), bounds(EvaluateSettings, "temperature", "top_k", "seed"))
def test_a_sample_at_the_bounds_is_a_token(name: str, value: float) -> None:
    settings = EvaluateSettings(**{name: value})
    choose = sampling(temperature=settings.temperature, top_k=settings.top_k, seed=settings.seed)
    logits = torch.tensor([[900.0, -900.0, 0.0], [0.0, 0.0, 0.0], [float("-inf"), 1.0, 2.0]])
    assert choose(logits).tolist()[0] in (0, 1, 2)


@pytest.mark.parametrize(("name", "value"), bounds(EvaluateSettings, "margin", "confidence", "resamples", "seed"))
def test_the_gate_at_the_bounds(name: str, value: float) -> None:
    settings = EvaluateSettings(**{name: value})
    rule = Rule(settings.margin, settings.confidence, settings.resamples, settings.seed)
    ours, theirs = (
        Scores("t", "p", tuple((nll, 100) for nll in (500.0 + lift,) * 6), "w", "w") for lift in (0.0, 30.0)
    )
    assert gate(ours, theirs, rule).word in ("promote", "keep")


def test_the_cluster_compiles_at_the_bounds(tmp_path: Path) -> None:
    limits = {
        "gpus": 64, "retries": 100, "cpu_request": "1m", "cpu_limit": "1024", "memory_request": "16Mi",
        "memory_limit": "64Ti", "timeout_seconds": 2**31 - 1,
    }  # fmt: skip
    places = [f"cluster.{step}={json.dumps(limits)}" for step in ("download", "train", "evaluate", "notify")]
    seconds = [f"cluster.{name}={2**31 - 1}" for name in ("run_deadline_seconds", "keep_success_seconds")]
    users = [f"cluster.run_as_user={2**31 - 1}", "cluster.run_as_group=0"]
    image = f"cluster.image=registry/wikigpt@sha256:{'0' * 64}"
    compile_to(tmp_path / "pipeline.yaml", load("nightly", [image, *places, *seconds, *users]))
    assert str(2**31 - 1) in (tmp_path / "pipeline.yaml").read_text()


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["evaluate.window=2048"],
            r"evaluate\.window must be at most train\.context 512, got 2048; the nearest is 512",
        ),
        (
            ["evaluate.stride=257"],
            r"evaluate\.stride must be at most train\.sequence_length 256, got 257; the nearest is 256",
        ),
    ],
)
def test_a_window_that_no_model_of_these_settings_has_is_refused_before_the_training(overrides, sentence):
    with pytest.raises(Failure, match=sentence) as caught:
        load("quick", overrides)
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("evaluate", "sentence"),
    [
        ({"window": 61}, r"evaluate\.window must be at most the context of the pretrained model, 60, got 61"),
        ({"stride": 61}, r"evaluate\.stride must be at most the context of the pretrained model, 60, got 61"),
        ({"window": 60, "stride": 60}, None),
        ({}, None),
    ],
)
def test_a_window_that_exceeds_the_context_of_a_pretrained_model_and_its_prefix_is_refused(evaluate, sentence):
    settings = tiny(pretrained="./gpt2", adapter="prefix", prefix_tokens=4)
    with nullcontext() if sentence is None else pytest.raises(Failure, match=sentence):
        check_window(settings, EvaluateSettings(**evaluate), pretrained_context=64)


@pytest.mark.slow
def test_an_evaluation_on_a_missing_gpu_is_refused_before_a_run_starts(tmp_path, monkeypatch):
    from pipelines.local.home import open_home

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    settings = load("quick", ["evaluate.device=cuda", "train.device=cpu", "train.precision=float32"])
    with pytest.raises(Failure, match=r"evaluate\.device is cuda, and there is no GPU"):
        pin_numerics(settings, open_home(tmp_path / "home"))


def test_weights_that_fit_no_memory_are_named() -> None:
    named = explain_oom("the weights of the model", where="train.hidden_size", remedy="lower it")
    with pytest.raises(Failure, match="Memory is full with the weights of the model"), named:
        torch.empty(1 << 60, dtype=torch.uint8)


def test_optimizers_take_the_bounds() -> None:
    settings = tiny(learning_rate=100, beta1=0, beta2=0.999999, weight_decay=100, optimizer="muon")
    assert len(build_optimizers(torch.nn.Sequential(torch.nn.Embedding(4, 4), torch.nn.Linear(4, 4)), settings)) == 2
