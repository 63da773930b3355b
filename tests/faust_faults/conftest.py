"""The specs reach no server: a connection from one is an error, as in the unit tests."""

from __future__ import annotations

from tests.unit.conftest import _no_network

__all__ = ["_no_network"]
