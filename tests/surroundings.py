"""What a test does where something that it needs is not on this machine."""

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skips the test in one line, or fails it where WIKIGPT_TEST_REQUIRE_ALL says that nothing may be missing."""
    if os.environ.get("WIKIGPT_TEST_REQUIRE_ALL"):
        pytest.fail(what, pytrace=False)
    pytest.skip(what)
