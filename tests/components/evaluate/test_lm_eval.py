"""The protocol `lm-eval` against the package itself, on the same model and the same local text."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from components.evaluate.perplexity import score_text
from components.evaluate.scoring import Scorer
from components.evaluate.texts import detokenise, harness_documents
from tests.components.evaluate.conftest import CONTEXT, make_model, write_text


@pytest.fixture(scope="module")
def harness() -> Path:
    """Where the package keeps its task `wikitext`; importing all of the package takes seconds."""
    found = importlib.util.find_spec("lm_eval")
    if found is None:
        pytest.skip("lm_eval is a test extra: pip install -e '.[test]'")
    return Path(found.submodule_search_locations[0]) / "tasks" / "wikitext"


def test_documents_are_detokenised_as_the_package_does(harness, real_data):
    theirs = _load(harness / "preprocess_wikitext.py")
    raw = (real_data / "wikitext-2-raw" / "wiki.test.raw").read_bytes().decode()
    for page in harness_documents(raw):
        assert detokenise(page) == theirs.wikitext_detokenizer({"page": page})


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
def test_the_package_gives_the_same_perplexities(harness, kind, tokenizer, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import Dataset
    from lm_eval import simple_evaluate
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks._yaml_loader import load_yaml

    model, text = make_model(kind), write_text(11, 8) + " = 1 henry and this = \n and so on \n"
    pages = list(harness_documents(text))
    assert len(pages) == 9
    config = load_yaml(harness / "wikitext.yaml", resolve_func=True)
    config |= {"custom_dataset": lambda **_: {"test": Dataset.from_dict({"page": pages})}, "metadata": None}
    for key in ("dataset_path", "dataset_name", "training_split", "validation_split"):
        config.pop(key)
    task = ConfigurableTask(config=config)
    wrapped = HFLM(pretrained=model, tokenizer=tokenizer, max_length=CONTEXT, batch_size=4)
    theirs = simple_evaluate(wrapped, tasks=[task], bootstrap_iters=0)["results"]["wikitext"]

    ours = score_text(text, "lm-eval", Scorer(model, CONTEXT, CONTEXT), tokenizer, trained_bos=None)

    assert ours.word_perplexity == pytest.approx(theirs["word_perplexity,none"], rel=1e-4)
    assert ours.bits_per_byte == pytest.approx(theirs["bits_per_byte,none"], rel=1e-4)


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
