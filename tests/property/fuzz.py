"""Everything that may come, on every topic that is read: nothing crashes, and each has one way out.

    python -m tests.property.fuzz --records 1000000 --seed 1

Schemas with fields, ids and keys of every kind; events, labels and internal records, good, mutated
and arbitrary, in micro-batches of all sizes. A control entity's events among them must get the
vectors that they get alone.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import orjson
from aiokafka import ConsumerRecord
from prometheus_client import REGISTRY
from pydantic import BaseModel

from streams.adapters.memory.labels import MemoryLabelStore
from streams.adapters.memory.scorer import FixedChampion, MemoryScorer
from streams.adapters.memory.state import MemoryFeatureState
from streams.labelling.join import Join
from streams.ports.batches import MicroBatch, SourceRecord
from streams.records import Scored, decoder
from streams.scoring.processor import Scoring
from streams.spec import (
    Bucket,
    Cleaning,
    Column,
    Count,
    Event,
    Feedback,
    Invalid,
    LabelRate,
    Mean,
    Model,
    OneHot,
    Pipeline,
    Policies,
    Sum,
)
from tests.property.generated_events import MUTATIONS, VALUES, _nothing
from workers.examples.reading import decode as decode_examples

T0 = 1_700_000_000


class Channel(Enum):
    """A category."""

    web = "web"
    app = "app"


class Inner(BaseModel):
    """A nested model."""

    a: int = 0
    b: list[str] = []


class Wide(BaseModel):
    """A field of every kind; id and key are text."""

    transaction_id: str
    customer_id: str
    terminal_id: int
    amount: float
    tx_time: datetime
    points: int = 0
    fee: float | None = None
    flag: bool = False
    day: date = date(2024, 1, 1)
    channel: Channel = Channel.web
    price: Decimal = Decimal("1.5")
    session: UUID = UUID(int=0)
    tags: list[int] = []
    inner: Inner = Inner()
    either: int | str = 0
    maybe: str | None = None


class Numbered(BaseModel):
    """Id, key and time are numbers."""

    transaction_id: int
    customer_id: int
    terminal_id: str
    amount: float
    tx_time: float
    points: int | None = None


def _pipeline(schema: type[BaseModel], keys: Sequence[str], name: str) -> Pipeline:
    windows = [
        feature
        for key in keys
        for feature in (
            Count(key=key, over="1h"),
            Sum(key=key, over="1d", field="amount"),
            Mean(key=key, over="7d", field="points"),
            LabelRate(key=key, over="7d", delay="1h"),
        )
    ]
    return Pipeline(
        name=name,
        event=Event(schema, id="transaction_id", key="customer_id", time="tx_time"),
        cleaning=Cleaning(missing={"points": 0}),
        features=[
            Column("amount"),
            Column("points"),
            Bucket("terminal_id", 100),
            *([OneHot("channel", ("web", "app"))] if schema is Wide else []),
            *windows,
        ],
        model=Model(network=lambda features: None),
        feedback=Feedback(horizon="1h", missing=0, keep="1d"),
        policies=Policies(invalid=Invalid(ratio=1.0)),
    )


PIPELINES = (
    _pipeline(Wide, ["customer_id", "terminal_id"], "wide"),
    _pipeline(Wide, ["channel", "price"], "enum-decimal"),
    _pipeline(Wide, ["session", "day", "either"], "uuid-date-union"),
    _pipeline(Numbered, ["customer_id", "terminal_id"], "numbered"),
)
CONTROL = b"control"


@dataclass
class Account:
    """What became of the records of one pipeline."""

    records: int = 0
    ways: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Subject:
    """A pipeline in memory, fed record by record of every topic."""

    def __init__(self, pipeline: Pipeline, seed: int) -> None:
        self.pipeline = pipeline
        self.account = Account()
        self._rng = random.Random(seed)
        self._offsets: Counter[str] = Counter()
        self._numbers = 0
        self._served: list[bytes] = []
        self._examples: list[bytes] = []
        self._scoring = self._new_scoring()
        self._alone = self._new_scoring()
        self._join = Join(pipeline, MemoryLabelStore())
        self._control = 0

    def _new_scoring(self) -> Any:
        state = MemoryFeatureState(self.pipeline.plan)
        scorer = MemoryScorer({1: lambda vectors: vectors[:, :1] * 0})
        return Scoring(self.pipeline, state, scorer, FixedChampion(1), _nothing).partition(0)

    async def feed(self, records: int) -> None:
        """Feed about so many records, in batches of mixed sizes."""
        until = self.account.records + records
        while self.account.records < until:
            size = self._rng.choice([1, 1, 2, 5, 20, 100, 300])
            kind = self._rng.random()
            if kind < 0.7:
                await self._feed_events(size)
            elif kind < 0.9:
                self._feed_join(self.pipeline.topics.feedback, [self._label() for _ in range(size)])
            elif kind < 0.97:
                rows = [self._mutated(self._pick(self._served)) for _ in range(size)]
                self._feed_join(self.pipeline.topics.scored, rows)
            else:
                self._feed_examples(
                    [self._mutated(self._pick(self._examples)) for _ in range(size)]
                )

    async def _feed_events(self, size: int) -> None:
        topics = self.pipeline.topics
        values = [self._event() for _ in range(size)]
        control = self._good(control=True)
        values.insert(self._rng.randrange(size + 1), control)
        records = self._records(topics.events, values)
        before = self._repeated()
        outputs = await self._scoring.process(_batch(records))
        repeated = self._repeated() - before
        alone = await self._alone.process(_batch(self._records("alone", [control])))
        letters = [dict(headers) for _, _, headers in outputs[topics.dead_letters]]
        ways = Counter(int(headers["offset"]) for headers in letters)
        served = {value: None for _, value, _ in outputs[topics.scored] if value}
        self._served = [*self._served[-200:], *served][-300:]
        ids = Counter(
            int(orjson.loads(value)["id"].partition("-")[2])
            for _, value, _ in outputs[topics.predictions]
        )
        ways.update(ids)
        self.account.ways.update(headers["cause"].decode() for headers in letters)
        self.account.ways["predicted"] += len(ids)
        none = [record for record in records if not ways[record.offset]]
        if len(none) != repeated:
            self.account.wrong.append(f"{len(none)} have no way out, {repeated} came before")
        if max(ways.values()) > 1:
            self.account.wrong.append(f"more than one way out: {ways.most_common(1)}")
        self._compare(outputs[topics.scored], alone[topics.scored])
        if served:
            self._feed_join(topics.scored, list(served))

    def _repeated(self) -> int:
        """How many events were dropped since they had come before."""
        labels = {"pipeline": self.pipeline.name}
        return int(REGISTRY.get_sample_value("driftloop_duplicates_total", labels) or 0)

    def _compare(self, among: Any, alone: Any) -> None:
        """The control entity's vector among others, and alone."""
        read = decoder(Scored).decode
        mine = [read(value).vector for key, value, _ in among if key == CONTROL]
        own = [read(value).vector for _, value, _ in alone]
        if self.pipeline.name == "wide" and mine != own:
            self.account.wrong.append(f"the control entity has {mine}, alone {own}")

    def _feed_join(self, topic: str, values: Sequence[bytes | None]) -> None:
        records = self._records(topic, values)
        joined = self._join.take(records)
        self._examples = [*self._examples, *(v for _, v, _ in joined.examples if v)][-300:]
        letters = Counter(record.offset for record, _ in joined.rejected)
        self.account.ways.update(f"label {error.cause}" for _, error in joined.rejected)
        if max(letters.values(), default=1) > 1:
            self.account.wrong.append("a label has two dead letters")
        if self._rng.random() < 0.3:
            self._join.commit()

    def _feed_examples(self, values: Sequence[bytes | None]) -> None:
        decode_examples(self._records(self.pipeline.topics.examples, values))

    def _records(self, topic: str, values: Sequence[bytes | None]) -> list[SourceRecord]:
        found: list[SourceRecord] = []
        for value in values:
            offset = self._offsets[topic]
            self._offsets[topic] += 1
            control = value is not None and b'"control' in value
            key = CONTROL if control else self._rng.choice([b"k", b"k", b"j", b"\xff\x00", None])
            at = self._rng.choice([0, -1, T0 * 1000, (T0 + self._numbers) * 1000, 10**18])
            at = 0 if control else at
            found.append(ConsumerRecord(topic, 0, offset, at, 0, key, value, None, 0, 0, ()))
        self.account.records += len(values)
        return found

    def _good(self, *, control: bool = False) -> bytes:
        self._numbers += 1
        rng, number = self._rng, self._numbers
        at = T0 + number
        text = self.pipeline.name != "numbered"
        if control:
            self._control += 1
        found: dict[str, Any] = {
            "transaction_id": f"t{number}" if text else number,
            "customer_id": f"c{rng.randrange(50)}" if text else 2**60 + rng.randrange(50),
            "terminal_id": rng.randrange(20) if text else f"m{rng.randrange(20)}",
            "amount": rng.randrange(10_000) / 100,
            "tx_time": datetime.fromtimestamp(at, UTC).isoformat()
            if text
            else at * 10 ** (3 * rng.randrange(4)),
        }
        if text and rng.random() < 0.5:
            found |= {
                "points": rng.randrange(100),
                "channel": rng.choice(["web", "app"]),
                "price": rng.choice(["1.50", "1.5", 2, 1e20]),
                "session": str(UUID(int=rng.randrange(5))),
                "day": str(date(2024, 1, 1) + timedelta(days=rng.randrange(9))),
                "tags": [1] * rng.randrange(3),
                "inner": {"a": 1, "b": ["x"]},
                "either": rng.choice([1, "1", "x"]),
            }
        if control:
            found |= {"customer_id": "control" if text else 7, "amount": 1.0, "points": 3}
            found["terminal_id"] = 999 if text else "control"
            found.pop("channel", None)
        return orjson.dumps(found)

    def _event(self) -> bytes | None:
        value = self._good()
        return value if self._rng.random() < 0.4 else self._mutated(value)

    def _label(self) -> bytes | None:
        known = [orjson.loads(value)["event_id"] for value in self._served[-20:]]
        name = self._rng.choice([*known, "nobody", 5, 2**70, "x" * 3000])
        when = self._rng.choice(
            [T0 + self._numbers, (T0 + self._numbers) * 1000, "2023-11-15T00:00:00Z", 10**400, -1]
        )
        parts = [
            b'"event_id":' + (b"%d" % name if isinstance(name, int) else orjson.dumps(name)),
            b'"label":' + self._rng.choice([b"0", b"1", b"1.0", b"2", b"true", b"1e400", b"null"]),
            b'"labelled_at":' + (b"%d" % when if isinstance(when, int) else orjson.dumps(when)),
        ]
        value = b"{" + b",".join(parts) + b"}"
        return value if self._rng.random() < 0.6 else self._mutated(value)

    def _mutated(self, value: bytes) -> bytes | None:
        if self._rng.random() < 0.05:
            return self._rng.choice([None, b"", b"null", self._rng.randbytes(30)])
        if self._rng.random() < 0.3:
            return _other_value(self._rng, value)
        try:
            return self._rng.choice(MUTATIONS)(self._rng, value)
        except (KeyError, ValueError, TypeError, AttributeError):  # it does not fit this record
            return value[:-1]

    def _pick(self, values: list[bytes]) -> bytes:
        return self._rng.choice(values) if values else b"{}"


def _other_value(rng: random.Random, value: bytes) -> bytes:
    """One field with a value of any kind."""
    try:
        found = orjson.loads(value)
    except ValueError:
        return b"{"
    if not isinstance(found, dict) or not found:
        return b"[]"
    name = rng.choice(list(found))
    huge = (b"1" + b"0" * 400, b"-1" + b"0" * 400, b"1e40", b"-1e39", b"3e38", b'"2024-13-01"')
    parts = [orjson.dumps(k) + b":" + orjson.dumps(v) for k, v in found.items() if k != name]
    parts.append(orjson.dumps(name) + b":" + rng.choice([*VALUES, *huge]))
    return b"{" + b",".join(parts) + b"}"


def _batch(records: list[SourceRecord]) -> MicroBatch:
    first = records[0].offset
    return MicroBatch(records[0].topic, 0, records, first, first)


async def run(
    records: int, seed: int, report: Callable[[str], None] = lambda line: None
) -> Iterator[tuple[Pipeline, Account]]:
    """Feed each pipeline its share; returns what became of the records."""
    found = []
    for pipeline in PIPELINES:
        subject = Subject(pipeline, seed)
        await subject.feed(records // len(PIPELINES))
        account = subject.account
        report(f"{pipeline.name}: {account.records:,} records, {dict(account.ways.most_common())}")
        found.append((pipeline, account))
    return iter(found)


def main() -> None:
    """Print what became of the records; exits with 1 where something was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    wrong = [
        line
        for _, account in asyncio.run(run(options.records, options.seed, print))
        for line in account.wrong
    ]
    for line in wrong[:20]:
        print("wrong:", line)
    print(f"{len(wrong)} wrong")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
