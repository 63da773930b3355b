"""Seeded events, and what must come out of each: computed from first principles, event by event.

Event time runs two hours a second. A history of forty days is there before the first fault, so that
every window is full. What is exact and what is not:

- Windows of a customer depend on one partition's order: exact, late events included, of every kind.
- Windows of a terminal end a week in the past, 84 seconds of the run: exact while no
  partition and no label lags by as much. What a terminal has forgotten depends on how far other
  partitions are: its longest window may start later, and the count that was served says where.
  The history itself is sent faster than that; terminals are compared from its end on.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from random import Random
from typing import TypeVar
from zlib import crc32

import orjson

from tests.faults.customers import DAY, WINDOWS, Paid, counts_and_means, of_events
from tests.faults.watched import PRIOR, STRENGTH

START = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())
"""Event time at the start of the live stream."""
SPEED = 7200
"""Seconds of event time in a second."""
HISTORY = 40 * DAY
LATE = DAY // 2
"""Most that an event's time is behind the stream."""
LABELLED = START - 4 * DAY
"""Events from here on get labels: those before, sent at once, would get them too late."""
CUSTOMERS, TERMINALS = 2000, 1000
CAUSE = "expect"
"""Header of a bad record that names the cause its dead letter must have."""

_KEPT = (31 * DAY, 37 * DAY)
_DELAY = 7 * DAY
_OPEN = 90 * SPEED
"""Outputs may be so much later than their events, in seconds of event time."""
_BAD_SHARE, _REPEATED_SHARE, _LATE_SHARE = 0.005, 0.01, 0.02
_ADDED_SHARE, _NEW_CUSTOMERS = 0.2, 200


@dataclass(frozen=True, slots=True)
class Sent:
    """A record for the events topic."""

    partition: int
    key: bytes | None
    value: bytes
    cause: str = ""
    """Of its dead letter; empty for a good one."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a good event must give."""

    number: int
    time: int
    terminal: str
    customer_part: tuple[float, ...]
    """The vector up to the terminal's features."""
    other_part: tuple[float, ...]
    """The vector after them: the customer's windows of other kinds (`tests.faults.watched`)."""


def event_id(number: int) -> str:
    """The id of an event by its number."""
    return f"e{number}"


def label_of(number: int) -> int | None:
    """The label that is fed back for an event, if it is recent enough; None for none."""
    drawn = crc32(b"label %d" % number)
    return None if drawn % 4 == 0 else int(drawn // 4 % 5 == 0)


def partition_of(key: str, partitions: int) -> int:
    """Where a customer's events and labels go."""
    return crc32(key.encode()) % partitions


class Generator:
    """A seeded stream of records.

    `recent` is how many events back a repeated one may be: less than half a day of event time,
    so that it is within the day in which a repeated id is known, late or not.
    """

    def __init__(
        self,
        seed: int,
        partitions: int,
        *,
        customers: int = CUSTOMERS,
        terminals: int = TERMINALS,
        recent: int = 2000,
    ) -> None:
        self._random = Random(seed)
        self._partitions = partitions
        self._customers = customers
        self._terminals = terminals
        self._numbers = count()
        self._recent: deque[Sent] = deque(maxlen=recent)
        self._added: Sequence[int] = ()

    def grow(self, partitions: int) -> None:
        """There are so many partitions now: new customers are on the added ones.

        The others stay where they are: their windows need the order of one partition.
        """
        self._added = range(self._partitions, partitions)

    def history(self, events: int) -> list[Sent]:
        """Good events, evenly over the time before the live stream."""
        step = HISTORY / events
        return [self._good(int(START - HISTORY + i * step)) for i in range(events)]

    def live(self, now: int) -> Sent:
        """The next record at an event time: good, late, repeated or bad."""
        drawn = self._random.random()
        if drawn < _BAD_SHARE:
            return self._bad(now)
        drawn -= _BAD_SHARE
        if drawn < _REPEATED_SHARE and self._recent:
            return self._random.choice(self._recent)
        drawn -= _REPEATED_SHARE
        late = self._random.randrange(LATE) if drawn < _LATE_SHARE else 0
        sent = self._good(now - late)
        self._recent.append(sent)
        return sent

    def _good(self, at: int) -> Sent:
        event = self._event(at)
        return self._sent(event, orjson.dumps(event))

    def _event(self, at: int) -> dict[str, object]:
        random = self._random
        return {
            "transaction_id": event_id(next(self._numbers)),
            "customer_id": self._customer(),
            "terminal_id": f"t{random.randrange(self._terminals)}",
            "amount": random.randrange(100, 20_000) / 100,
            "tx_time": datetime.fromtimestamp(at, UTC).isoformat(),
        }

    def _customer(self) -> str:
        if self._added and self._random.random() < _ADDED_SHARE:
            return f"n{self._random.choice(self._added)}-{self._random.randrange(_NEW_CUSTOMERS)}"
        return f"c{self._random.randrange(self._customers)}"

    def _bad(self, at: int) -> Sent:
        event = self._event(at)
        match self._random.randrange(10):
            case 0:
                return self._sent(event, orjson.dumps(event)[:-1], "malformed")
            case 1:
                return self._sent(event, orjson.dumps({**event, "amount": -1.0}), "invalid")
            case 2:
                long_ago = {**event, "tx_time": "1970-01-02T00:00:00Z"}
                return self._sent(event, orjson.dumps(long_ago), "time")
            case 3:
                return self._sent(event, b"", "empty")
            case 4:
                return self._sent(event, orjson.dumps({**event, "amount": 1e40}), "invalid")
            case 5:
                huge = orjson.dumps({**event, "amount": 7}).replace(b":7", b":1" + b"0" * 400)
                return self._sent(event, huge, "invalid")
            case 6:
                long = {**event, "transaction_id": "x" * 5000}
                return self._sent(event, orjson.dumps(long), "too-long")
            case 7:
                return self._sent(event, orjson.dumps({**event, "tx_time": "2107-01-01"}), "time")
            case 8:
                return self._sent(event, b"[" * 50_000, "malformed")
        partition = self._random.randrange(self._partitions)
        return Sent(partition, None, orjson.dumps(event), "missing-key")

    def _sent(self, event: dict[str, object], value: bytes, cause: str = "") -> Sent:
        key = str(event["customer_id"])
        home = partition_of(key, self._partitions)
        if key.startswith("n"):
            home = int(key[1:].partition("-")[0])
        return Sent(home, key.encode(), value, cause)


class Truth:
    """What the good events of the source topic must give, read in offset order per partition."""

    def __init__(self, history: int) -> None:
        self._history = history
        self._customers: dict[str, list[Paid]] = defaultdict(list)
        self._terminals: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._known: set[int] = set()

    def take(self, value: bytes) -> Expected | None:
        """Count an event in; None for a repeated one, which must be dropped."""
        event = orjson.loads(value)
        number = int(event["transaction_id"][1:])
        if number in self._known:
            return None
        self._known.add(number)
        moment = datetime.fromisoformat(event["tx_time"])
        at = int(moment.timestamp())
        terminal = event["terminal_id"]
        _add(self._terminals[terminal], (at, number), _KEPT[1] + _OPEN)
        events = self._customers[event["customer_id"]]
        _add(events, (at, (event["amount"], terminal)), _KEPT[0])
        part = (
            event["amount"],
            float(moment.weekday() >= 5),
            float(moment.hour <= 6),
            *counts_and_means(events, at),
        )
        return Expected(number, at, terminal, part, of_events(events, at))

    def agrees(self, expected: Expected, vector: Sequence[float], latest: int) -> bool:
        """Whether a served vector is right; `latest` is the newest event time sent so far."""
        own, other = len(expected.customer_part), len(expected.other_part)
        rest = own + 2 * len(WINDOWS)
        if not all(map(_close, vector[:own], expected.customer_part)):
            return False
        if not all(map(_close, vector[rest : rest + other], expected.other_part)):
            return False
        if expected.number < self._history:
            return True
        return self._terminal_agrees(expected, [*vector[own:rest], *vector[rest + other :]], latest)

    def _terminal_agrees(self, expected: Expected, served: Sequence[float], latest: int) -> bool:
        events, at = self._terminals[expected.terminal], expected.time - _DELAY
        end = bisect_right(events, at, key=_time)
        for i, window in enumerate(WINDOWS):
            seen, rate = served[2 * i], served[2 * i + 1]
            start = bisect_right(events, at - window, key=_time)
            # how far a terminal's memory reaches follows the newest event of any partition
            forgotten = max(start, bisect_right(events, latest - _KEPT[1], key=_time))
            if not end - forgotten <= seen <= end - start:
                return False
            counted = events[end - int(seen) : end]
            frauds = sum(label_of(n) or 0 for t, n in counted if t >= LABELLED)
            if not _close(rate, frauds / max(1, len(counted))):
                return False
        genuine, smoothed = served[-2:]  # of the longest window, the last one above
        expected_rate = (frauds + PRIOR * STRENGTH) / (len(counted) + STRENGTH)
        share = (len(counted) - frauds) / max(1, len(counted))
        return _close(genuine, share) and _close(smoothed, expected_rate)


def _time(event: tuple[int, object]) -> int:
    return event[0]


_T = TypeVar("_T", tuple[int, int], Paid)


def _add(events: list[_T], event: _T, kept: int) -> None:
    """Insert in time order, and forget what is `kept` seconds older than the newest."""
    insort(events, event, key=_time)
    del events[: bisect_right(events, events[-1][0] - kept, key=_time)]


def _close(found: float, expected: float) -> bool:
    return abs(found - expected) <= 1e-5 * max(1.0, abs(expected))
