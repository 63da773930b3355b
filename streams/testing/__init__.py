"""A pipeline in memory, without a server: for `driftloop check` and users' own tests."""

from __future__ import annotations

from streams.testing.rehearsal import Rehearsal, Rehearsed
from streams.testing.samples import sample_events

__all__ = ["Rehearsal", "Rehearsed", "sample_events"]
