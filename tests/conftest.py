"""Fixtures for all tests; servers are started only by the tests that ask for them."""

from __future__ import annotations

from hypothesis import settings as hypothesis_settings

from streams.kafka import workarounds
from tests.stack import repository, settings, stack

__all__ = ["repository", "settings", "stack"]

hypothesis_settings.register_profile("driftloop", deadline=None)  # cores may be busy
hypothesis_settings.load_profile("driftloop")
workarounds.apply()  # as every program of ours does when it starts
