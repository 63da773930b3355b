"""Fixtures for all tests; servers are started only by the tests that ask for them.

Tests with servers run one after another in one process. The others run beside them in another
(`make test`), which takes a fifth of the time away.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.kafka import workarounds
from tests.stack import repository, settings, stack

__all__ = ["repository", "settings", "stack"]

_TESTS = Path(__file__).parent
_BESIDE = ("unit", "property", "faust_faults")

workarounds.apply()  # as every program of ours does when it starts


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests with servers together, for whoever runs tests in several processes."""
    for item in items:
        if item.path.relative_to(_TESTS).parts[0] not in _BESIDE:
            item.add_marker(pytest.mark.xdist_group("servers"))
