"""What the demo sees from outside: each prediction counted, scored against the truth."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.kafka.reading import following
from streams.ledger.state import state_after
from streams.ledger.topic import decode
from streams.ports.batches import SourceRecord
from streams.records import Action, LedgerEntry, Prediction, Scored
from streams.settings import Settings
from streams.spec.layout import unpack
from streams.spec.topics import Topics


@dataclass
class Seen:
    """What came out so far, by transaction id."""

    times: NDArray[np.uint8]
    """How often each event was predicted; all ones at the end, or something is wrong."""
    scores: NDArray[np.float32]
    versions: NDArray[np.int32]
    vectors: NDArray[np.float32]
    dead_letters: Counter[str] = field(default_factory=Counter)
    unknown: int = 0
    """Predictions for events that were never sent."""
    ledger: list[LedgerEntry] = field(default_factory=list)
    event_time: float = 0.0

    @classmethod
    def of(cls, events: int, features: int) -> Seen:
        """Room for this many events."""
        return cls(
            times=np.zeros(events, np.uint8),
            scores=np.zeros(events, np.float32),
            versions=np.zeros(events, np.int32),
            vectors=np.zeros((events, features), np.float32),
        )

    @property
    def predicted(self) -> int:
        """Events with at least one prediction."""
        return int(np.count_nonzero(self.times))

    @property
    def doubled(self) -> int:
        """Events with more than one."""
        return int(np.count_nonzero(self.times > 1))

    @property
    def champion(self) -> int:
        """The version that the ledger names last; 0 for none."""
        return state_after(self.ledger).champion

    @property
    def promoted(self) -> list[int]:
        """Versions that became champion, in order."""
        return [entry.version for entry in self.ledger if entry.action is Action.PROMOTE]


class Observer:
    """A read_committed consumer of everything that the pipeline writes."""

    def __init__(self, settings: Settings, topics: Topics, seen: Seen) -> None:
        self._settings = settings
        self._topics = topics
        self.seen = seen

    async def run(self) -> None:
        """Consume until cancelled."""
        topics = self._topics
        read = (topics.predictions, topics.scored, topics.dead_letters, topics.models)
        async with following(self._settings, *read) as follower:
            while True:
                found = await follower.poll(0.2, most=5000)
                for topic, records in groupby(found, attrgetter("topic")):
                    self._take(topic, list(records))
                await asyncio.sleep(0)

    def _take(self, topic: str, records: list[SourceRecord]) -> None:
        values = [record.value or b"" for record in records]
        if topic == self._topics.predictions:
            self._predictions(msgspec.json.decode(_array(values), type=list[Prediction]))
        elif topic == self._topics.scored:
            self._scored(msgspec.json.decode(_array(values), type=list[Scored]))
        elif topic == self._topics.models:
            self.seen.ledger += decode(records)
        else:
            for record in records:
                cause = dict(record.headers)["cause"].decode()
                self.seen.dead_letters[cause] += 1

    def _predictions(self, found: list[Prediction]) -> None:
        seen = self.seen
        ids = np.array([int(p.event_id) for p in found])
        known = (ids >= 0) & (ids < len(seen.times))
        seen.unknown += int((~known).sum())
        np.add.at(seen.times, ids[known], 1)
        seen.scores[ids[known]] = np.array([p.score for p in found])[known]
        seen.versions[ids[known]] = np.array([p.version for p in found])[known]
        seen.event_time = max(seen.event_time, *(p.event_time for p in found))

    def _scored(self, found: list[Scored]) -> None:
        ids = np.array([int(s.event_id) for s in found])
        self.seen.vectors[ids] = unpack([s.vector for s in found])


def _array(values: list[bytes]) -> bytes:
    return b"[" + b",".join(values) + b"]"
