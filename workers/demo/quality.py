"""How good the loop was by day, against versions that were left alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t

from streams.records import Manifest
from streams.spec import Pipeline
from streams.spec.model import INPUT
from workers.demo.observer import Seen
from workers.demo.source import DAY
from workers.evaluation.daily import DayQuality, daily_quality

DayMetric = Callable[[DayQuality], float | None]
_BLOCK = 3
"""Days of a block: cards and terminals are compromised for several, so that days are alike."""


@dataclass(frozen=True)
class Alone:
    """A version left alone, which scores all later days, beside what the loop served on them."""

    version: int
    alone: list[DayQuality]
    loop: list[DayQuality]
    """Of the same days."""

    def gain(self, metric: DayMetric) -> tuple[float, float, float]:
        """The loop's mean gain per day, and the ends of its 95 % interval.

        By Student's t of the means of blocks of days, since days that follow one another are alike;
        -1 and 1 where there are fewer than two blocks. NaN without days.
        """
        pairs = [(metric(a), metric(b)) for a, b in zip(self.loop, self.alone, strict=True)]
        gains = np.array([a - b for a, b in pairs if a is not None and b is not None])
        if len(gains) < 2 * _BLOCK:
            return (float(gains.mean()) if len(gains) else np.nan), -1.0, 1.0
        means = [block.mean() for block in np.array_split(gains, len(gains) // _BLOCK)]
        error = np.std(means, ddof=1) / np.sqrt(len(means))
        wide = float(t.ppf(0.975, len(means) - 1) * error)
        gain = float(gains.mean())
        return gain, gain - wide, gain + wide


@dataclass(frozen=True)
class Quality:
    """The loop's quality by day, and that of versions which were left alone."""

    first: Alone
    """The first champion, from the day after the one on which it began to serve."""
    warm: Alone | None
    """The first champion that learnt from full windows only, from when its labels had matured."""
    warm_day: int
    """From this day on the longest window is full."""

    @property
    def first_when_warm(self) -> list[DayQuality]:
        """The first version on the days of the warm one."""
        days = {one.day for one in self.warm.alone} if self.warm else set()
        return list(compress(self.first.alone, [one.day in days for one in self.first.alone]))


def mean(days: Sequence[DayQuality], metric: DayMetric) -> float:
    """Mean over the days that have the metric."""
    found = [value for day in days if (value := metric(day)) is not None]
    return sum(found) / len(found) if found else float("nan")


def quality(
    pipeline: Pipeline, world: pd.DataFrame, start: float, seen: Seen, repository: Path
) -> Quality:
    """What the versions that were promoted would have done alone; there is at least one.

    `start` is the world's day 0, seconds since 1970.
    """
    warm_seconds = max((window.oldest for window in pipeline.windows), default=0)
    warm_day = -(-warm_seconds // DAY)
    manifests = [entry.manifest for entry in seen.ledger if entry.version in seen.promoted]
    first = seen.promoted[0]
    served = int(world["day"].iloc[np.flatnonzero(seen.versions == first)[0]])
    full = start + warm_seconds
    learnt_warm = [one for one in manifests if one and one.slices["train"][0] >= full]
    warm = None
    if learnt_warm:
        day = _matured_day(pipeline, learnt_warm[0]) - int(start // DAY)
        warm = _alone(world, seen, repository, learnt_warm[0].version, day)
    return Quality(
        first=_alone(world, seen, repository, first, served + 1),
        warm=warm if warm and warm.alone else None,
        warm_day=warm_day,
    )


def _matured_day(pipeline: Pipeline, manifest: Manifest) -> int:
    """The first whole day, since 1970, on which all that the version learnt from was known."""
    known = manifest.label_watermark + pipeline.feedback.horizon_seconds
    return int(-(-known // DAY))


def _alone(world: pd.DataFrame, seen: Seen, repository: Path, version: int, day: int) -> Alone:
    days = world["day"].to_numpy()
    rows = np.flatnonzero((days >= day) & (seen.times > 0))
    labels = world["is_fraud"].to_numpy()[rows]
    customers = world["customer_id"].to_numpy()[rows]
    scores = _scores(repository / str(version) / "model.onnx", seen.vectors[rows])
    return Alone(
        version,
        alone=daily_quality(days[rows], customers, scores, labels),
        loop=daily_quality(days[rows], customers, seen.scores[rows], labels),
    )


def _scores(model: Path, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    parts = [
        session.run(None, {INPUT: vectors[start : start + 8192]})[0][:, 0]
        for start in range(0, len(vectors), 8192)
    ]
    return np.concatenate([np.empty(0, np.float32), *parts])
