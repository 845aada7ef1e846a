"""Fixtures of the registry, see tests/registry.py."""

from tests.pipelines.registry.conftest import _filled, client, filled  # noqa: F401
