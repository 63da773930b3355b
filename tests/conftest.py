"""Fixtures for all tests; servers are started only by the tests that ask for them."""

from __future__ import annotations

from streams.kafka import workarounds
from tests.stack import repository, settings, stack

__all__ = ["repository", "settings", "stack"]

workarounds.apply()  # as every program of ours does when it starts
