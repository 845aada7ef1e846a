"""Distillation: the loss against its formula, sampled candidates, and a training that teachers make better."""

from __future__ import annotations

import copy
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from components.shared.base.failure import Failure, Interrupted
from components.shared.reuse.trained import weights_digest
from components.shared.storage.files import file_fact
from components.shared.storage.manifest import Manifest, read_manifest, write_manifest
from components.shared.storage.store import open_store
from components.train.extras.candidate_rows import CandidateRows
from components.train.extras.distillation import (
    Distillation,
    SoftTargets,
    distilled_loss,
    load_teachers,
    tempered,
)
from components.train.extras.sampled_softmax import Candidates, CandidateSampler
from components.train.loop import train
from components.train.model import build_model, save_model, token_loss
from components.train.run import run
from tests.components.train.conftest import losses_of, make_tokens, open_tiny, tiny, tiny_step
from tests.components.train.killing import interrupt_after
from tests.registry import make_model

CPU = torch.device("cpu")
# One evaluation, at the end, on the whole split.
WHOLE: dict[str, Any] = {"evaluate_every": 1000, "validation_tokens": None}
VOCABULARY = 100
FREQUENCIES = 0.95 ** np.arange(VOCABULARY) / (0.95 ** np.arange(VOCABULARY)).sum()
VERSION = f"models:/toy/1#{'0' * 64}"


def models_of(count: int, **settings: object) -> list[nn.Module]:
    """Models with different weights that are far from uniform."""
    made = []
    for seed in range(count):
        model = build_model(tiny(seed=seed, **settings), vocab_size=VOCABULARY, eos_id=0).eval()
        with torch.no_grad():
            model.get_output_embeddings().weight.mul_(30)
        made.append(model)
    return made


def batch_of(step: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs and targets, in which larger ids are rarer."""
    ids = torch.from_numpy(np.random.default_rng(step).choice(VOCABULARY, (2, 13), p=FREQUENCIES))
    return ids[:, :-1], ids[:, 1:]


def sampler_of(size: int) -> CandidateSampler:
    return CandidateSampler(np.ceil(1e4 * FREQUENCIES), size=size, tokens=26, seed=1, device=CPU)


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize(("share", "temperature"), [(0.5, 1.2), (0.3, 2.0), (1.0, 0.5)])
def test_the_gradient_is_that_of_the_formula(share: float, temperature: float, sampled: bool) -> None:
    student, *teachers = models_of(3)
    exact = copy.deepcopy(student).double()
    inputs, targets = batch_of()
    settings = tiny(distill_share=share, distill_temperature=temperature)
    candidates = CandidateRows(student, sampler_of(60), settings).load(0, inputs, targets) if sampled else None
    soft = Distillation(teachers, settings, VOCABULARY).soft_targets(inputs, candidates)
    token_loss(student, inputs, targets, VOCABULARY, candidates, None, soft).backward()

    ids = torch.arange(VOCABULARY) if candidates is None else candidates.ids
    correction = 0 if candidates is None else candidates.logq_correction.double()

    def logits(model: nn.Module) -> Tensor:
        return model(input_ids=inputs).logits.flatten(0, 1)[:, ids]

    own = logits(exact)
    with torch.no_grad():
        told = [(logits(teacher.double()) / temperature + correction).exp() for teacher in teachers]
        mean = sum(each / each.sum(dim=1, keepdim=True) for each in told) / len(told)
    classes = torch.searchsorted(ids, targets.flatten())
    hard = -(own + correction).log_softmax(dim=1)[range(len(classes)), classes].mean()
    kl = (mean * (mean.log() - (own / temperature + correction).log_softmax(dim=1))).sum(dim=1).mean()
    ((1 - share) * hard + share * temperature**2 * kl).backward()
    for (name, ours), theirs in zip(student.named_parameters(), exact.parameters(), strict=True):
        # With candidates the model has their rows of the embeddings, and one more.
        wanted = theirs.grad if ours.shape == theirs.shape else theirs.grad[ids]
        torch.testing.assert_close(ours.grad[: len(wanted)].double(), wanted, rtol=2e-3, atol=2e-5, msg=name)


def test_a_model_that_equals_its_teacher_gets_no_gradient_whatever_the_sample() -> None:
    (teacher,) = models_of(1)
    student, settings = copy.deepcopy(teacher), tiny(distill_share=1.0)
    rows = CandidateRows(student, sampler_of(60), settings)
    inputs, targets = batch_of()
    for step in range(3):
        candidates = rows.load(step, inputs, targets)
        soft = Distillation([teacher], settings, VOCABULARY).soft_targets(inputs, candidates)
        student.zero_grad()
        token_loss(student, inputs, targets, VOCABULARY, candidates, None, soft).backward()
        assert max(weight.grad.abs().max() for weight in student.parameters()) < 1e-5


def test_the_gradient_over_samples_is_on_average_that_over_the_vocabulary() -> None:
    """Without the correction of both it is not: frequent tokens, which are nearly always candidates, count too much."""
    generator = torch.Generator().manual_seed(3)
    student, teacher = (2 * torch.randn(1, 1, VOCABULARY, generator=generator) for _ in range(2))
    temperature = 1.5
    zero = torch.zeros(())

    def gradient(candidates: Candidates | None, correct: bool = True) -> Tensor:
        own = student.clone().requires_grad_(True)
        if candidates is None:
            ours, theirs = own, teacher
        else:
            ours, theirs = own[..., candidates.ids], teacher[..., candidates.ids]
            if not correct:
                candidates = candidates._replace(logq_correction=torch.zeros_like(candidates.logq_correction))
        mean = tempered(theirs, temperature, candidates).softmax(dim=-1)
        distilled_loss(zero, ours, SoftTargets(mean, 1.0, temperature), candidates).backward()
        return own.grad.flatten()

    whole = gradient(None)
    sampler = sampler_of(50)
    draws = [sampler.draw(step, *batch_of(step)) for step in range(2000)]
    with_correction, without = (
        (torch.stack([gradient(each, correct) for each in draws]).mean(dim=0) - whole).norm() / whole.norm()
        for correct in (True, False)
    )
    assert with_correction < 0.1
    assert without > 2 * with_correction


def test_teachers_that_do_not_fit_fail_in_one_sentence(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "teacher", "gpt2")
    with pytest.raises(Failure, match="sequence of 65 tokens is longer than the context of a teacher, 64"):
        load_teachers([folder], tiny(distill=(VERSION,), sequence_length=65, context=128), CPU)
    (teacher,) = load_teachers([folder], tiny(distill=(VERSION,), sampled_softmax=64), CPU)
    assert not teacher.training
    assert not any(weight.requires_grad for weight in teacher.parameters())


def trained(tokens: Manifest, folder: Path, teachers: list[nn.Module] = (), **values: object) -> tuple[nn.Module, list]:
    settings = tiny(**values)
    model, data = open_tiny(settings, tokens, folder)
    rows: list[dict] = []
    train(model, data, settings, steps=settings.steps, device=CPU, observe=rows.append, teachers=teachers)
    return model, [row["validation_loss"] for row in rows if "validation_loss" in row]


@pytest.mark.slow
@pytest.mark.parametrize("sampled", [None, 128])
def test_a_student_of_two_teachers_is_better_after_the_same_steps(
    tokens: Manifest, tokens_dir: Path, good_teachers: list[nn.Module], sampled: int | None
) -> None:
    """With half as many steps as the teachers and a rate at which the text alone is learned evenly."""
    settings = {"steps": 120, "learning_rate": 5e-3, **WHOLE, "sampled_softmax": sampled}
    for seed in (4, 5):
        plain = trained(tokens, tokens_dir, seed=seed, **settings)[1]
        taught = trained(tokens, tokens_dir, good_teachers, seed=seed, **settings)[1]
        assert taught[-1] < plain[-1] - 0.01


@pytest.fixture(scope="module")
def good_teachers(tokens: Manifest, tokens_dir: Path) -> list[nn.Module]:
    return [trained(tokens, tokens_dir, seed=seed, steps=250, **WHOLE)[0] for seed in (2, 3)]


@pytest.fixture(scope="module")
def folders(tokens: Manifest, tokens_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two model folders, as the step leaves them."""
    found = []
    for seed in (1, 2):
        folder = tmp_path_factory.mktemp("teacher") / "model"
        model = trained(tokens, tokens_dir, seed=seed)[0]
        save_model(model, folder, vocab_size=tokens.metadata["vocab_size"], eos_id=tokens.metadata["eos_id"])
        shutil.copytree(tokens_dir / "tokenizer", folder, dirs_exist_ok=True)
        write_manifest(folder, "model", {"tokenizer_digest": tokens.metadata["tokenizer_digest"], "identity": {}})
        found.append(folder)
    return found


@pytest.fixture
def teachers(here: Path, folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pinned addresses of two models in the store; MLflow is not needed to fetch them."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    digests = [weights_digest(read_manifest(folder, "model")) for folder in folders]
    for folder, digest in zip(folders, digests, strict=True):
        open_store(str(here / "store")).publish(folder, "model", digest)
    return [f"models:/toy/{number}#{digest}" for number, digest in enumerate(digests, start=1)]


@pytest.mark.slow
def test_processes_and_micro_batches_train_the_same(here: Path, tokens_dir: Path, teachers: list[str]) -> None:
    values = {"distill": teachers, "sampled_softmax": 128, "seed": 3}
    run(tiny_step(**values), "a" * 32, tokens_dir, here / "one")
    parts = {"processes": 2, "threads": 2, "gradient_accumulation_steps": 2}
    run(tiny_step(**values, **parts), "b" * 32, tokens_dir, here / "four")
    assert losses_of(here / "four") == pytest.approx(losses_of(here / "one"), rel=1e-4)
    run(tiny_step(sampled_softmax=128, seed=3), "c" * 32, tokens_dir, here / "plain")
    assert losses_of(here / "plain") != pytest.approx(losses_of(here / "one"), rel=1e-2)


@pytest.mark.slow
def test_a_resumed_distillation_is_exact(
    here: Path, tokens_dir: Path, teachers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"distill": teachers, "dropout": 0.1, "sampled_softmax": 128, "ema_decay": 0.9}
    run(tiny_step(**values), "a" * 32, tokens_dir, here / "whole")
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="after step 5"):
        interrupt_after(patch, steps=5)
        run(tiny_step(**values), "b" * 32, tokens_dir, here / "resumed")
    run(tiny_step(**values), "b" * 32, tokens_dir, here / "resumed")
    whole, resumed = (file_fact(here / name / "model.safetensors") for name in ("whole", "resumed"))
    assert resumed == whole


@pytest.mark.slow
def test_it_is_compiled_as_one_graph(tokens: Manifest, tokens_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graphs are traced with their gradient, and run without the code generator, which would take a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    values = {"steps": 4, "sampled_softmax": 128, "seed": 3}
    teachers = [trained(tokens, tokens_dir, seed=1)[0]]
    plain = trained(tokens, tokens_dir, teachers, **values)[1]
    assert trained(tokens, tokens_dir, teachers, compile=True, **values)[1] == pytest.approx(plain, rel=1e-4)


def test_a_teacher_with_another_tokenizer_fails_in_one_sentence(
    here: Path, tokens_dir: Path, teachers: list[str]
) -> None:
    other = make_tokens(here, seed=7, vocabulary="apple pear plum")
    with pytest.raises(Failure, match=r"another tokenizer than that of toy/1 \(train.distill\)"):
        run(tiny_step(distill=teachers), "d" * 32, other, here / "model")
