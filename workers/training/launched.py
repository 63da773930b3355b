"""What torchrun says to a process that it has started, and what that process says when it ends."""

from __future__ import annotations

import os

LOST = 3
"""Exit code of a rank that has lost another."""


class RankLost(Exception):
    """Another rank has ended, or does not answer."""


def given_ranks() -> int:
    """How many processes train together, as torchrun says; 1 where it does not."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def given_rank() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0"))
