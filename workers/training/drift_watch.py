"""Follows what is served, and says when the champion's first alarm asks for a candidate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from streams import telemetry
from streams.kafka.reading import TopicFollower
from streams.ledger.state import LedgerState
from streams.ledger.topic import read_state
from streams.settings import Settings
from streams.spec import Pipeline
from workers.evaluation.drift import ColumnDrift
from workers.evaluation.live_drift import DriftRow, LiveDrift, served

log = structlog.get_logger(__name__)

_NAMED = 3
"""Columns that an alarm names."""


class Alarm(NamedTuple):
    """A drift for which a candidate is to be made."""

    end: float
    """Event time at which its bucket was over: labels that have matured so far tell of it."""
    cause: str
    """What drifted, and how far."""


class DriftWatch:
    """Judges the champion's buckets as they are over; one for a trainer."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._follower = TopicFollower(settings, pipeline.topics.drift)
        self._live = LiveDrift(pipeline.policies.drift)
        self._judged = -math.inf
        """`_bucket` when buckets were judged last."""
        self._said: set[tuple[int, float]] = set()

    async def start(self) -> None:
        """Connect. Raises `Unavailable`."""
        await self._follower.start()

    async def stop(self) -> None:
        """Disconnect."""
        await self._follower.stop()

    def look_again(self) -> None:
        """A candidate was decided on, so the next look is at another ledger."""
        self._judged = -math.inf

    async def look(self, decided: float) -> list[Alarm] | None:
        """The champion's alarms that ask for a candidate, oldest first.

        None while no bucket has ended since buckets were judged last. `decided` is the label
        watermark of the last candidate: what it could learn from asks for no other. Raises
        `Unavailable`.
        """
        self._live.add(await self._follower.poll(0.0))
        if self._bucket() <= self._judged or not await self._follower.caught_up():
            return None
        self._live.expected = served(await self._follower.ends(self._pipeline.topics.scored))
        if (bucket := self._bucket()) <= self._judged:
            return None
        now = await read_state(self._settings, self._pipeline)
        self._judged = bucket
        policies = self._pipeline.policies
        kept = self._pipeline.feedback.keep_seconds + policies.retrain.window_seconds
        self._live.forget(self._live.watermark - kept)
        references = {now.champion: now.manifest.reference if now.manifest else None}
        rows = self._live.rows(references, only=now.champion) if now.champion else []
        self._show(rows)
        return alarms(rows, now, decided) if policies.drift.retrain else []

    def _bucket(self) -> float:
        """The bucket that has begun in all partitions, by number; -inf for none."""
        watermark = self._live.watermark
        span = self._pipeline.policies.evaluate.every_seconds
        return watermark // span if math.isfinite(watermark) else watermark

    def _show(self, rows: list[DriftRow]) -> None:
        """The latest bucket as metrics, and a line for each that drifted."""
        name, judged = self._pipeline.name, [row for row in rows if not row.unjudged]
        for row in judged:
            if row.alarm and (row.version, row.start) not in self._said:
                self._said.add((row.version, row.start))
                log.warning("drift", version=row.version, columns=cause(row))
        drift = judged[-1].drift if judged else None
        telemetry.DRIFT_RATIO.labels(name).set(drift.ratio if drift else math.nan)
        telemetry.DRIFT_ALARMS.labels(name).set(len(drift.alarms) if drift else 0)
        for column in drift.columns if drift else ():
            telemetry.DRIFT_INDEX.labels(name, column.column).set(column.psi)


def alarms(rows: Iterable[DriftRow], now: LedgerState, decided: float) -> list[Alarm]:
    """The champion's alarms that ask for a candidate; none once one was made for a drift of it.

    So a drift that goes on makes one candidate, and another only if that one is champion and what
    is served has drifted from what *it* was trained on.
    """
    if any(made.parent == now.champion and made.cause for made in now.versions.values()):
        return []
    found = [row for row in rows if row.version == now.champion and row.alarm]
    return [Alarm(row.end, cause(row)) for row in found if row.end > decided]


def cause(row: DriftRow) -> str:
    """What drifted in a bucket, in words: the columns that moved most."""
    drifted = row.drift.alarms if row.drift is not None else []
    more = f", and {len(drifted) - _NAMED} more" if len(drifted) > _NAMED else ""
    day = datetime.fromtimestamp(row.start, UTC).strftime("%Y-%m-%d %H:%M")
    return (
        f"drift of version {row.version} from {day}: "
        + ", ".join(map(_moved, drifted[:_NAMED]))
        + more
    )


def _moved(one: ColumnDrift) -> str:
    return f"{one.column} (mean {one.before:.4g} -> {one.after:.4g}, stability index {one.psi:.2f})"
