"""A reuse key depends on everything that determines its result, and on nothing else.

The tables below are kept by hand: a setting, a module or a numeric that is new has to be given a line here, or the test
that the tables are complete fails.
"""

import ast
import json
import re
import shutil
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
import torch

from components.evaluate import measure
from components.evaluate.measure import evaluation_key
from components.evaluate.settings import EvaluateSettings
from components.shared.reuse import code
from components.shared.reuse import keys as reuse_keys
from components.shared.reuse.keys import (
    EXCLUDED_MODULES,
    SOURCES,
    Request,
    code_digest,
    differences,
    request_of,
    with_numerics,
)
from components.train.device import numerics_of
from components.train.settings import TrainSettings
from components.validate.run import validation_key
from components.validate.settings import ValidateSettings
from pipelines.config.settings import SECTIONS, load

ROOT = code.ROOT
DATASET = "d" * 64
TOKENS, MODEL, EVALUATION, VALIDATION = "tokens", "model", "evaluation", "validation"
# Other tokens are another training.
BOTH, NONE = frozenset({TOKENS, MODEL}), frozenset()

# By section and field: the keys that an edit changes.
SETTINGS: dict[str, dict[str, frozenset[str]]] = {
    # What is downloaded counts by its digest.
    "download": dict.fromkeys(("corpus", "name", "sha256", "text_column", "force", "fall_back_to_sample"), NONE),
    "validate": {field.name: frozenset({VALIDATION}) for field in fields(ValidateSettings)},
    "tokenize": dict.fromkeys(("tokenizer", "revision", "vocab_size", "min_frequency"), BOTH),
    "train": {
        **dict.fromkeys(
            (
                "seed", "architecture", "num_hidden_layers", "hidden_size", "num_attention_heads",
                "key_value_heads", "intermediate_size", "context",
                "tied_embeddings", "init", "pretrained", "revision", "dropout", "attention_dropout",
                "embedding_dropout", "adapter", "adapter_rank", "adapter_alpha", "adapter_dropout", "prefix_tokens",
                "sequence_length", "global_batch_size", "gradient_accumulation_steps",
                "steps", "epochs", "tokens", "sampled_softmax", "prepend_eos",
                "distill", "distill_share", "distill_temperature",
                "optimizer", "learning_rate", "muon_learning_rate", "beta1", "beta2", "weight_decay",
                "gradient_clip", "warmup_steps", "decay", "min_lr_ratio", "ema_decay",
                "evaluate_every", "validation_tokens", "patience",  # they choose the step whose weights are kept
                "device", "precision", "compile", "threads", "processes",
            ),
            frozenset({MODEL}),
        ),
        "log_every": NONE,
    },
    "checkpoints": dict.fromkeys(("every", "every_seconds", "keep"), NONE),
    "evaluate": {
        **dict.fromkeys(
            (
                "protocols", "window", "stride", "bos", "dtype", "threads", "batch_tokens", "bleu_prompts",
                "prompt_words", "continuation_words", "samples", "temperature", "top_k", "seed", "cache_size",
            ),
            frozenset({EVALUATION}),
        ),
        "device": NONE,  # by what it means on this machine, see below
        **dict.fromkeys(("margin", "confidence", "resamples", "policy"), NONE),
    },
    "register": dict.fromkeys(("patience", "promoters", "signing", "signing_key"), NONE),
    "notify": {field.name: NONE for field in fields(SECTIONS["notify"])},
}  # fmt: skip

# By result and module: whether an edit of its code changes the key.
MODULES: dict[str, dict[str, bool]] = {
    "tokens": {
        **dict.fromkeys(("__init__", "pretrained", "run", "tokenizer", "shared/text/articles"), True),
        **dict.fromkeys(("component", "settings"), False),
    },
    "weights": {
        **dict.fromkeys(
            (
                "__init__", "checkpoint", "data", "device", "distributed", "job", "loop", "model", "optim", "weights",
                "worker", "extras/__init__", "extras/adapters", "extras/bigram", "extras/candidate_rows",
                "extras/distillation", "extras/muon", "extras/sampled_softmax", "shared/model/hardware",
                "shared/model/head",
            ),
            True,
        ),
        **dict.fromkeys(
            (
                "checkpoint_manager", "compile_cache", "component", "hosts", "metrics", "reporter", "run", "settings",
                "time_left",
            ),
            False,
        ),
    },
    "evaluation": {
        **dict.fromkeys(
            (
                "__init__", "adaptive", "baselines", "cache", "continuations", "dynamic", "generate",
                "log_probabilities", "measure", "model", "perplexity", "prefix", "run", "scoring", "texts", "windows",
                "shared/text/articles", "shared/model/hardware", "shared/model/head", "shared/model/reach",
                "shared/text/units",
            ),
            True,
        ),
        **dict.fromkeys(
            ("adapted_section", "champion", "component", "pictures", "report", "settings"), False
        ),
    },
    "validation": {
        **dict.fromkeys(
            (
                "__init__", "article_measures", "checks", "corpus", "drift", "expectations", "line_measures",
                "published", "measures", "overlap", "pictures", "report", "results", "run", "statistics",
                "vocabulary", "shared/text/articles", "shared/report/report",
                "shared/text/units",
            ),
            True,
        ),
        **dict.fromkeys(("component", "settings"), False),
    },
}  # fmt: skip
# What the steps use of `components.shared` that carries bytes and words about, and decides no result.
CARRIERS = {
    "base/address", "base/events", "base/failure", "base/json_values", "base/model_address", "base/renamed_keys",
    "model/hardware", "model/pretrained", "model/reach", "model/registered_version", "report/measures", "reuse/keys",
    "reuse/trained", "reuse/training_lock", "runtime/liveness", "runtime/step", "storage", "tracking/approval",
    "tracking/gate", "tracking/registry", "tracking/run",
}  # fmt: skip

# By key: packages whose release decides the result.
VERSIONS = {
    TOKENS: {"tokenizers", "transformers"},
    MODEL: {"torch", "transformers", "tokenizers", "peft", "numpy"},
    EVALUATION: {"torch", "transformers", "tokenizers", "sacrebleu"},
    VALIDATION: {"great_expectations", "matplotlib"},
}

CPU = {"device": "cpu", "processor": "a CPU", "threads": 8, "processes": 1, "precision": "float32", "compiled": False}
CPU |= {"torch": "2.13.0+cpu"}
# By numeric: another value, and whether it changes the key of a model trained on a CPU, and on a GPU.
NUMERICS = {
    "device": ("another GPU", True, True),
    "processor": ("another CPU", True, True),
    "threads": (4, True, False),
    "processes": (2, True, True),
    "precision": ("bfloat16", True, True),
    "compiled": (True, True, True),
    "torch": ("2.13.0+cu130", True, True),
}
FACTS = {"name": "sample", "dataset_digest": DATASET}


def settings() -> dict:
    return json.loads(load("quick", []).to_json())


def keys(sections: dict) -> dict[str, str]:
    request = request_of(DATASET, sections)
    evaluate = {**sections["evaluate"], "protocols": tuple(sections["evaluate"]["protocols"])}
    return {
        TOKENS: request.tokens_key,
        MODEL: request.model_key,
        EVALUATION: evaluation_key(EvaluateSettings(**evaluate), DATASET),
        VALIDATION: validation_key(ValidateSettings(**sections["validate"]), FACTS, None),
    }


def another(section: str, name: str, value: object) -> object:
    """Another value of a setting."""
    chosen = {
        ("evaluate", "protocols"): ["hf-doc"], ("evaluate", "bos"): "never", ("evaluate", "device"): "cpu",
        ("evaluate", "dtype"): "bfloat16", ("evaluate", "policy"): "never", ("evaluate", "window"): 64,
        ("evaluate", "margin"): 0.1, ("evaluate", "confidence"): 0.9, ("train", "device"): "cuda",
    }  # fmt: skip
    if (section, name) in chosen:
        return chosen[section, name]
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        return value / 2 + 0.03
    if isinstance(value, int) or value is None:
        return (value or 0) + 1
    return f"{value}x"


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {key for key in before if before[key] != after[key]}


def test_every_setting_is_listed():
    assert {section: set(lines) for section, lines in SETTINGS.items()} == {
        section: {field.name for field in fields(kind)} for section, kind in SECTIONS.items()
    }


@pytest.mark.parametrize(
    ("section", "name"), [(section, name) for section, lines in SETTINGS.items() for name in lines]
)
def test_a_setting_changes_only_the_keys_of_results_that_it_determines(section, name):
    before = settings()
    after = settings()
    after[section][name] = another(section, name, before[section][name])
    assert after[section][name] != before[section][name]
    assert changed(keys(before), keys(after)) == SETTINGS[section][name]


def test_a_new_learning_rate_keeps_the_tokens_key():
    other = settings()
    other["train"]["learning_rate"] = 1.0
    assert changed(keys(settings()), keys(other)) == {MODEL}


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ({"device": "cpu"}, True),
        ({"device": "auto"}, True),
        ({"device": "cuda"}, False),
        ({"device": "cuda", "init": "bigram"}, True),
        ({"device": "cuda", "init": "bigram", "pretrained": "openai-community/gpt2"}, False),
    ],
)
def test_the_requested_threads_count_if_the_cpu_computes(values, counts):
    one, two = settings(), settings()
    one["train"] |= {"init": "random", **values, "threads": 4}
    two["train"] |= {"init": "random", **values, "threads": 8}
    assert (MODEL in changed(keys(one), keys(two))) is counts


def test_another_device_or_precision_changes_the_key_of_the_evaluation(monkeypatch):
    seen = set()
    for numerics in (("cpu", "float32"), ("cuda", "float32"), ("cuda", "bfloat16")):
        monkeypatch.setattr(measure, "numerics_of", lambda _, numerics=numerics: numerics)
        seen.add(evaluation_key(EvaluateSettings(), DATASET))
    assert len(seen) == 3


def test_the_corpus_and_the_content_of_external_inputs_change_the_keys():
    request = request_of(DATASET, settings())
    other = request_of("e" * 64, settings())
    assert (other.tokens_key != request.tokens_key) and (other.model_key != request.model_key)
    assert evaluation_key(EvaluateSettings(), "e" * 64) != evaluation_key(EvaluateSettings(), DATASET)
    tokenizer = request_of(DATASET, settings(), {"content.tokenize.tokenizer": "bytes"})
    weights = request_of(DATASET, settings(), {"content.train.pretrained": "bytes"})
    assert changed(_keys(request), _keys(tokenizer)) == BOTH
    assert changed(_keys(request), _keys(weights)) == {MODEL}


def _keys(request: Request) -> dict[str, str]:
    return {TOKENS: request.tokens_key, MODEL: request.model_key}


@pytest.mark.parametrize("package", sorted(set().union(*VERSIONS.values())))
def test_another_release_of_a_package_changes_the_keys_of_what_it_computes(monkeypatch, package):
    before, installed = keys(settings()), reuse_keys._version
    monkeypatch.setattr(reuse_keys, "_version", lambda name: "0.0" if name == package else installed(name))
    expected = {key for key, packages in VERSIONS.items() if package in packages}
    assert changed(before, keys(settings())) == expected | (BOTH if TOKENS in expected else set())


def test_the_build_of_a_package_is_not_in_the_keys(monkeypatch):
    reuse_keys._version.cache_clear()
    monkeypatch.setattr(reuse_keys, "version", lambda name: "2.13.0+cu130")
    try:
        assert reuse_keys._version("torch") == "2.13.0"
    finally:
        reuse_keys._version.cache_clear()


def test_every_numeric_is_listed():
    seen = numerics_of(TrainSettings(steps=1), torch.device("cpu"))
    assert seen.keys() == NUMERICS.keys() == CPU.keys()


@pytest.mark.parametrize("name", NUMERICS)
def test_a_numeric_changes_the_key_with_numerics_if_it_determines_weights(name):
    value, on_cpu, on_gpu = NUMERICS[name]
    gpu = {**CPU, "device": "a GPU", "processor": None}
    for numerics, counts in ((CPU, on_cpu), (gpu, on_gpu)):
        assert (with_numerics("k", {**numerics, name: value}) != with_numerics("k", numerics)) is counts
    assert with_numerics("another", CPU) != with_numerics("k", CPU)


def test_the_numerics_name_the_processor_if_it_computes():
    cpu = torch.device("cpu")
    assert numerics_of(TrainSettings(steps=1), cpu)["processor"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
        on_gpu = [
            numerics_of(TrainSettings(steps=1, precision="float32", **values), torch.device("cuda"))
            for values in ({}, {"init": "bigram"})
        ]
    assert [bool(numerics["processor"]) for numerics in on_gpu] == [False, True]
    assert {numerics["device"] for numerics in on_gpu} == {"NVIDIA H100"}


def test_every_module_is_listed():
    for result, lines in MODULES.items():
        step, *shared = (Path(source) for source in SOURCES[result])
        modules = {path.relative_to(ROOT / step).with_suffix("").as_posix() for path in (ROOT / step).rglob("*.py")}
        modules |= {path.relative_to("components").with_suffix("").as_posix() for path in shared}
        assert lines.keys() == modules, result


@pytest.fixture(scope="module")
def copied(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "components", root / "components", ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.mark.parametrize(("result", "module"), [(result, module) for result in MODULES for module in MODULES[result]])
def test_only_edits_of_code_that_determines_a_result_change_its_key(copied, result, module):
    step = Path(SOURCES[result][0])
    path = copied / (step if "shared/" not in module else "components") / f"{module}.py"
    source = path.read_text()
    before = digest(result, copied)
    try:
        path.write_text("# Once more, with a comment.\n" + redocumented(source))
        assert digest(result, copied) == before
        path.write_text(source + "\n\ndef _added(value):\n    return value + 1\n")
        assert (digest(result, copied) != before) is MODULES[result][module]
    finally:
        path.write_text(source)


def digest(result: str, root: Path) -> str:
    code._digest.cache_clear()
    return code_digest(result, root)


def redocumented(source: str) -> str:
    """The source with the first docstring replaced, if there is one."""
    docstring = ast.get_docstring(ast.parse(source), clean=False)
    return source.replace(docstring, "Another docstring.", 1) if docstring else source


@pytest.mark.parametrize("result", SOURCES)
def test_the_code_of_another_step_does_not_change_the_key(copied, result):
    before = digest(result, copied)
    path = copied / "components" / "notify" / "run.py"
    source = path.read_text()
    path.write_text(source + "\nADDED = 1\n")
    assert digest(result, copied) == before
    path.write_text(source)


@pytest.mark.parametrize("result", SOURCES)
def test_every_shared_module_that_determining_code_imports_is_classified(result):
    """A new import from `components.shared` must be added to the sources of the key, or to the carriers here."""
    step = ROOT / SOURCES[result][0]
    counted = {source.removeprefix("components/shared/").removesuffix(".py") for source in SOURCES[result][1:]}
    deciding = [
        step / f"{module}.py"
        for module, counts in MODULES[result].items()
        if counts and not module.startswith("shared/")
    ]
    imported = {
        "/".join([*(node.module or "").split("."), alias.name][2:4])
        for file in deciding
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("components.shared")
        for alias in node.names
    }
    assert {name for name in imported if name.partition("/")[0] not in CARRIERS} <= counted | CARRIERS


def test_differences_are_named():
    other = replace(load("quick", []), train=replace(load("quick", []).train, seed=7))
    theirs = request_of(DATASET, settings()).key_parts
    ours = request_of(DATASET, json.loads(other.to_json())).key_parts
    assert differences(ours, theirs) == [f"train.seed: {settings()['train']['seed']} then, 7 now"]
    assert differences(ours, ours) == []
    assert differences({"new": 1}, {}) == ["new: None then, 1 now"]


def test_a_key_is_short_and_stable():
    assert len(request_of(DATASET, settings()).model_key) == 32
    assert request_of(DATASET, settings()) == request_of(DATASET, settings())
    assert asdict(TrainSettings(steps=1)).keys() == settings()["train"].keys()


def test_the_documentation_lists_the_modules_in_each_key():
    rows = {}
    for line in (ROOT / "docs" / "reuse.md").read_text().splitlines():
        if line.startswith("| ") and "`components/" in line:
            key, modules = (cell.strip() for cell in line.strip("|").split("|"))
            rows[key] = set(re.findall(r"`([\w/]+)`", modules))
    named = {"tokens": TOKENS, "model": "weights", "evaluation": EVALUATION, "validation": VALIDATION}
    assert rows.keys() == named.keys()
    for key, result in named.items():
        step, *shared = SOURCES[result]
        counted = {path.removeprefix("components/").removesuffix(".py") for path in shared}
        assert rows[key] == {step} | EXCLUDED_MODULES[result] | counted


def test_the_documentation_names_the_settings_that_are_in_no_key():
    text = (ROOT / "docs" / "reuse.md").read_text()
    for section in ("train", "evaluate"):
        left_out = [name for name, decides in SETTINGS[section].items() if not decides and name != "device"]
        assert all(f"`{name}`" in text for name in left_out)
