"""What came out, held against the truth: each record is judged as it is read, then forgotten."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiokafka import ConsumerRecord

from streams.records import Example, Prediction, Scored, decoder
from streams.spec.layout import unpack
from tests.faults.truth import CAUSE, LABELLED, Expected, Truth, label_of

_prediction = decoder(Prediction).decode
_scored = decoder(Scored).decode
_example = decoder(Example).decode

_SHOWN = 10

OFFENCES = {
    "lost": "events without a prediction",
    "doubled": "predictions beyond one of an event",
    "out of order": "predictions behind a later one of the same key",
    "wrong features": "vectors that are not those of the events before",
    "wrong score": "scores that the version's file does not give for the vector",
    "wrong content": "predictions with another id, time or key than the event's",
    "scored lost": "events without a record of what the model saw",
    "scored doubled": "records of what the model saw beyond one",
    "dead letters lost": "bad records without a dead letter",
    "dead letters doubled": "dead letters beyond one of a record",
    "dead letters wrong": "dead letters with another cause or value",
    "examples lost": "events behind an example of a later one, without their own",
    "examples doubled": "examples beyond one of an event",
    "examples wrong": "examples with another vector, label or origin",
    "invented": "outputs of no event",
    "cells wrong": "cells of live quality that are not those of the examples",
    "drift wrong": "distributions of what was served that are not those of its records",
}


class Scores(Protocol):
    """Checks scores by the versions' own files."""

    def add(self, name: str, version: int, vector: bytes, score: float) -> list[str]:
        """Check one, perhaps later; the names of those found wrong by now."""
        ...

    def rest(self) -> list[str]:
        """The names of those found wrong among what was not checked yet."""
        ...


@dataclass(slots=True)
class _Case:
    """One event of which a prediction must come."""

    partition: int
    offset: int
    key: bytes
    sent: float
    expected: Expected
    prediction: Prediction | None = None
    scored: Scored | None = None
    predicted: int = 0
    described: int = 0
    """Records on `P.scored`."""
    examples: int = 0
    vector: int = 0
    """Hash of the vector that was served."""


@dataclass
class Judge:
    """Takes the records of all topics; predictions are accepted only after their events."""

    truth: Truth
    scores: Scores
    exactly_once: bool
    counts: Counter[str] = field(default_factory=Counter)
    offences: Counter[str] = field(default_factory=Counter)
    named: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """The first event ids, or partition and offset, of each offence."""
    versions: Counter[int] = field(default_factory=Counter)
    newest: dict[int, float] = field(default_factory=dict)
    """By partition, when the newest event that was predicted was sent (seconds since 1970)."""
    newest_example: dict[int, float] = field(default_factory=dict)
    """By partition, the event time of the newest example."""
    latest: int = 0
    """Newest event time that was sent so far."""
    _cases: dict[int, _Case] = field(default_factory=dict)
    _read: Counter[int] = field(default_factory=Counter)
    _bad: dict[tuple[int, int], tuple[str, bytes | None]] = field(default_factory=dict)
    _lettered: set[tuple[int, int]] = field(default_factory=set)
    _order: dict[bytes, int] = field(default_factory=dict)

    @property
    def open(self) -> int:
        """Outputs that are yet to come."""
        good = len(self._cases)
        return (good - self.counts["predicted"]) + (good - self.counts["scored"]) + len(self._bad)

    def source(self, record: ConsumerRecord) -> None:
        """A record of the events topic."""
        self.counts["source"] += 1
        self._read[record.partition] = record.offset + 1
        cause = dict(record.headers).get(CAUSE)
        if cause is not None:
            self.counts["bad"] += 1
            self._bad[record.partition, record.offset] = (cause.decode(), record.value)
            return
        expected = self.truth.take(record.value)
        if expected is None:
            self.counts["repeated"] += 1
            return
        self.latest = max(self.latest, expected.time)
        self._cases[expected.number] = _Case(
            record.partition, record.offset, record.key, record.timestamp / 1000, expected
        )

    def prediction(self, record: ConsumerRecord) -> bool:
        """A record of the predictions topic; False where its event was not read yet."""
        found: Prediction = _prediction(record.value)
        partition, offset = map(int, found.id.split("-")[-2:])
        if offset >= self._read[partition]:
            return False
        case = self._case(found.event_id)
        if case is None:
            return True
        wrong = (record.key, partition, offset) != (case.key, case.partition, case.offset)
        if wrong or found.event_time != case.expected.time:
            self._offend("wrong content", found.event_id)
        case.predicted += 1
        if case.predicted > 1:
            self.counts["repeats"] += 1
            if self.exactly_once:
                self._offend("doubled", found.event_id)
            return True
        self.counts["predicted"] += 1
        self.versions[found.version] += 1
        if offset < self._order.get(case.key, -1):
            self._offend("out of order", found.event_id)
        self._order[case.key] = offset
        self.newest[partition] = max(self.newest.get(partition, 0.0), case.sent)
        case.prediction = found
        self._compare(case)
        return True

    def scored(self, record: ConsumerRecord) -> bool:
        """A record of the scored topic; False where its event was not read yet."""
        found: Scored = _scored(record.value)
        if int(found.event_id[1:]) not in self._cases:
            return False
        case = self._cases[int(found.event_id[1:])]
        case.described += 1
        if case.described > 1:
            self.counts["scored repeats"] += 1
            if self.exactly_once:
                self._offend("scored doubled", found.event_id)
            elif hash(found.vector) != case.vector:
                self._offend("wrong features", found.event_id)
            return True
        self.counts["scored"] += 1
        case.scored, case.vector = found, hash(found.vector)
        self._compare(case)
        return True

    def dead_letter(self, record: ConsumerRecord) -> bool:
        """A record of the dead-letter topic; False where its source was not read yet."""
        headers = {name: text.decode() for name, text in record.headers if name != CAUSE}
        place = (int(headers["partition"]), int(headers["offset"]))
        if place[1] >= self._read[place[0]]:
            return False
        if place in self._lettered:
            self.counts["dead letter repeats"] += 1
            if self.exactly_once:
                self._offend("dead letters doubled", f"{place[0]}-{place[1]}")
            return True
        self._lettered.add(place)
        cause, value = self._bad.pop(place, ("none", None))
        if headers["cause"] != cause or record.value != value:
            self._offend("dead letters wrong", f"{place[0]}-{place[1]}")
        return True

    def example(self, record: ConsumerRecord) -> bool:
        """A record of the examples topic; False where what it says was served was not read yet."""
        found: Example = _example(record.value)
        case = self._cases.get(int(found.event_id[1:]))
        if case is None or not case.described:
            return False
        self.counts["examples"] += 1
        self.newest_example[record.partition] = max(
            self.newest_example.get(record.partition, 0.0), found.event_time
        )
        case.examples += 1
        if case.examples > 1 and self.exactly_once:
            self._offend("examples doubled", found.event_id)
        label = label_of(case.expected.number) if case.expected.time >= LABELLED else None
        told = (float(label or 0), "horizon" if label is None else "feedback")
        same = not self.exactly_once or hash(found.vector) == case.vector
        if (found.label, found.origin) != told or not same:
            self._offend("examples wrong", found.event_id)
        return True

    def conclude(self, unmatched: int) -> None:
        """Nothing more will come: what is missing is lost, what has no event is invented."""
        self._offend_all("wrong score", self.scores.rest())
        for case in self._cases.values():
            name = f"e{case.expected.number}"
            if not case.predicted:
                self._offend("lost", name)
            if not case.described:
                self._offend("scored lost", name)
            newest = self.newest_example.get(case.partition, 0.0)
            if not case.examples and case.expected.time < newest:
                self._offend("examples lost", name)
        for partition, offset in self._bad:
            self._offend("dead letters lost", f"{partition}-{offset}")
        self.offences["invented"] += unmatched

    def report(self) -> dict[str, Any]:
        """Counts, offences and the versions seen, for JSON."""
        return {
            "counts": dict(self.counts) | {"dead letters": len(self._lettered)},
            "offences": {name: self.offences[name] for name in OFFENCES},
            "named": dict(self.named),
            "versions": {str(v): n for v, n in sorted(self.versions.items())},
        }

    def _case(self, event_id: str) -> _Case | None:
        case = self._cases.get(int(event_id[1:]))
        if case is None:
            self._offend("invented", event_id)
        return case

    def _compare(self, case: _Case) -> None:
        """Check vector and score once both records are there, and let go of them."""
        prediction, scored = case.prediction, case.scored
        if prediction is None or scored is None:
            return
        case.prediction = case.scored = None
        name = prediction.event_id
        if not self.truth.agrees(case.expected, unpack([scored.vector])[0].tolist(), self.latest):
            self._offend("wrong features", name)
        if prediction.version != scored.version and not self.exactly_once:
            return  # of two deliveries, with a promotion between them
        assert isinstance(prediction.score, float)
        wrong = self.scores.add(name, prediction.version, scored.vector, prediction.score)
        self._offend_all("wrong score", wrong)

    def _offend_all(self, what: str, names: list[str]) -> None:
        for name in names:
            self._offend(what, name)

    def _offend(self, what: str, name: str) -> None:
        self.offences[what] += 1
        if len(self.named[what]) < _SHOWN:
            self.named[what].append(name)
