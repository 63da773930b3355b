"""A world in memory, and the order in which a baseline may learn from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.settings import load_settings
from workers.worlds.catalogue import find_world
from workers.worlds.world import Happening

Floats = NDArray[np.float64]
Figures = list[tuple[str, str]]
"""What was measured, and how it came out."""
Ints = NDArray[np.int64]
Predict = Callable[[slice], Floats]
Fit = Callable[[Ints], Predict]
"""Given the events to learn from, what predicts a run of events."""


@dataclass(frozen=True)
class Stream:
    """Labelled events by event time; arrays [events]."""

    happenings: list[Happening]
    at: Floats
    label: Floats
    known: Floats
    """Since when each label is known."""


def stream(name: str) -> Stream:
    """All events of a world that ever get a label."""
    found = find_world(name).happenings(load_settings().cache_dir, print)
    kept = [one for one in found if one.label is not None]
    at, label, known = (
        np.array([getattr(one, field) for one in kept], np.float64)
        for field in ("at", "label", "labelled_at")
    )
    return Stream(kept, at, label, known)


def turns(of: Stream, first: int, every: int) -> Iterator[tuple[Ints, slice]]:
    """From event `first` on, runs of `every` events, each with what was known before it began."""
    for start in range(first, len(of.at), every):
        learnt = np.flatnonzero(of.known <= of.at[start])
        yield learnt, slice(start, min(start + every, len(of.at)))


def prequential(of: Stream, first: int, every: int, fit: Fit) -> Floats:
    """Predictions from event `first` on, of a model made anew every so many events."""
    made: list[Any] = [fit(learnt)(run) for learnt, run in turns(of, first, every)]
    return np.concatenate(made)


def frozen(of: Stream, first: int, fit: Fit) -> Floats:
    """Predictions from event `first` on, of one model, of what was known by then."""
    return prequential(of, first, len(of.at) - first, fit)


def by_quarter(values: NDArray[Any]) -> str:
    """The mean of each quarter, in order."""
    return " ".join(f"{part.mean():.3f}" for part in np.array_split(values, 4))
