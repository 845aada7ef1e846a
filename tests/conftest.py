"""Fixtures that more than one folder of tests uses."""

import os
from pathlib import Path

import pytest

BESIDE = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real WikiText-2 and the GPT-2 tokenizer, named by WIKIGPT_TEST_DATA."""
    folder = Path(os.environ.get("WIKIGPT_TEST_DATA") or BESIDE)
    if not folder.is_dir():
        pytest.skip("no real corpus here: set WIKIGPT_TEST_DATA to the folder that holds wikitext-2")
    return folder
