"""Fixtures of other folders that these cases use too."""

from tests.components.train.conftest import one_thread, tokens, tokens_dir  # noqa: F401
from tests.pipelines.conftest import command  # noqa: F401
