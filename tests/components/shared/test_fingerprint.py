"""The fingerprint follows what decides the weights, and nothing else."""

import ast
import shutil
from pathlib import Path

import pytest

from components.shared import fingerprint as module
from components.shared.fingerprint import differences, fingerprint, identity, source_digest

ROOT = Path(module.__file__).parents[2]
SETTINGS = {
    "tokenize": {"vocab_size": 8000},
    "train": {"learning_rate": 1e-3, "seed": 0},
    "evaluate": {"stride": 256},
    "register": {"margin": 0.0},
}


def with_setting(section, key, value):
    return {**SETTINGS, section: {**SETTINGS[section], key: value}}


def test_equal_inputs_have_one_fingerprint():
    assert fingerprint(identity("d" * 64, SETTINGS)) == fingerprint(identity("d" * 64, SETTINGS))
    assert len(fingerprint(identity("d" * 64, SETTINGS))) == 32


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        (with_setting("train", "learning_rate", 2e-3), True),
        (with_setting("train", "seed", 1), True),
        (with_setting("tokenize", "vocab_size", 8001), True),
        (with_setting("evaluate", "stride", 128), False),
        (with_setting("register", "margin", 0.1), False),
    ],
)
def test_settings_of_the_training_count_and_those_of_the_judgement_do_not(settings, changes):
    assert (fingerprint(identity("d", settings)) != fingerprint(identity("d", SETTINGS))) is changes


def test_another_dataset_is_another_fingerprint():
    assert fingerprint(identity("a", SETTINGS)) != fingerprint(identity("b", SETTINGS))


def test_another_version_of_a_library_is_another_fingerprint():
    parts = identity("d", SETTINGS)
    assert "+" not in parts["version.torch"]
    assert fingerprint({**parts, "version.torch": "0.0"}) != fingerprint(parts)


def test_differences_are_named():
    ours = identity("d", with_setting("train", "seed", 1))
    assert differences(ours, identity("d", SETTINGS)) == ["train.seed: 0 then, 1 now"]
    assert differences(ours, ours) == []
    assert differences({"new": 1}, {}) == ["new: None then, 1 now"]


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("components/train/loop.py", True),
        ("components/train/added.py", True),
        ("components/tokenize/run.py", True),
        ("components/shared/articles.py", True),
        ("components/train/component.py", False),
        ("components/tokenize/component.py", False),
        ("components/shared/storage/store.py", False),
        ("components/evaluate/run.py", False),
        ("README.md", False),
    ],
)
def test_only_source_that_decides_tokens_or_weights_counts(tmp_path, file, changes):
    for part in ("tokenize", "train", "shared"):
        shutil.copytree(ROOT / "components" / part, tmp_path / "components" / part)
    before = source_digest(tmp_path)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    with open(tmp_path / file, "a") as stream:
        stream.write("# an edit\n")
    assert (source_digest(tmp_path) != before) is changes


def test_a_file_that_moves_counts(tmp_path):
    shutil.copytree(ROOT / "components", tmp_path / "components")
    before = source_digest(tmp_path)
    (tmp_path / "components/train/loop.py").rename(tmp_path / "components/train/cycle.py")
    assert source_digest(tmp_path) != before


def test_every_shared_module_that_the_two_steps_import_was_weighed():
    """A new import from `components.shared` has to be added to the fingerprint's sources, or to the carriers here."""
    counted = {"articles"}
    carriers = {
        "address",
        "device",
        "events",
        "failure",
        "fingerprint",
        "head",
        "liveness",
        "machine",
        "storage.files",
        "storage.manifest",
        "pretrained",
        "settings",
        "step",
        "storage.s3",
        "storage.s3_files",
        "storage.store",
        "tracking",
        "training_lock",
    }
    steps = [ROOT / "components" / step for step in ("tokenize", "train")]
    files = [file for step in steps for file in step.rglob("*.py") if file.name != "component.py"]
    imported = {
        node.module.removeprefix("components.shared.")
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("components.shared.")
    }
    assert imported <= counted | carriers
    assert counted == {Path(source).stem for source in module._SOURCES if source.startswith("components/shared/")}
