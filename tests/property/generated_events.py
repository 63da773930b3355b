"""Good and bad events by the million through the scoring path: each is accounted for, once.

    python -m tests.property.generated_events --events 1000000 --seed 1

Real transactions, seeded mutations of them, and JSON that has nothing to do with them. Each record
must come out as one prediction, or one dead letter, or be the repetition of an event that had one.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
from aiokafka import ConsumerRecord

from streams.adapters.memory.scorer import FixedChampion, MemoryScorer
from streams.adapters.memory.state import MemoryFeatureState
from streams.errors import BadRecord
from streams.pipelines.card_fraud import Transaction
from streams.pipelines.card_fraud import pipeline as card_fraud
from streams.ports.batches import MicroBatch
from streams.records import Prediction, decoder
from streams.scoring.partition import PartitionScoring
from streams.scoring.processor import Scoring
from streams.scoring.validation import Validator
from streams.spec import Invalid, Policies
from workers.worlds.card_fraud import World, event_records, simulate

PIPELINE = replace(card_fraud, policies=Policies(invalid=Invalid(ratio=1.0)))
VALIDATOR = Validator(Transaction)
FIELDS = ("transaction_id", "customer_id", "terminal_id", "amount", "tx_time")
VALUES: tuple[bytes, ...] = (
    b"null",
    b"true",
    b'""',
    b"0",
    b"-0.0",
    b"-1",
    b"1e5",
    b"1e999",
    b"-1e999",
    b"NaN",
    b"Infinity",
    b"9223372036854775808",
    b"-170141183460469231731687303715884105728",
    b"[]",
    b"{}",
    b"[[[]]]",
    b'"12.5"',
    b'"nan"',
    b'"2018-04-01"',
    b'"9999-12-31T23:59:59Z"',
    b'"0001-01-01T00:00:00+23:59"',
    b'"2018-02-30T00:00:00"',
    b'"2018-04-01T24:00:00"',
    b'"2018-04-01T00:00:00.9999999Z"',
    b"1.5e9",
    b"1e300",
    b'"\\u0000"',
    b'"\\ud800"',
    '"\u540d\u524d \U0001f600"'.encode(),
    b'"' + b"x" * 20_000 + b'"',
    b"1" * 400,
    b"0.1" + b"0" * 400 + b"1",
)
Record = tuple[bytes | None, bytes | None]
Mutation = Callable[[random.Random, bytes], bytes]


def _flip(rng: random.Random, value: bytes) -> bytes:
    at = rng.randrange(len(value))
    return value[:at] + bytes([value[at] ^ 1 << rng.randrange(8)]) + value[at + 1 :]


def _cut(rng: random.Random, value: bytes) -> bytes:
    return value[: rng.randrange(len(value))]


def _insert(rng: random.Random, value: bytes) -> bytes:
    at = rng.randrange(len(value))
    what = rng.choice([b"\n", b"\x00", b"\xff\xfe", b",", b"}", b"{", b'"', b" " * 1000, b"/**/"])
    return value[:at] + what + value[at:]


def _replace(rng: random.Random, value: bytes) -> bytes:
    found = orjson.loads(value)
    name = rng.choice(FIELDS)
    parts = [b'"%s":%s' % (k.encode(), orjson.dumps(v)) for k, v in found.items() if k != name]
    parts.insert(rng.randrange(5), b'"%s":%s' % (name.encode(), rng.choice(VALUES)))
    return b"{" + b",".join(parts) + b"}"


def _drop(rng: random.Random, value: bytes) -> bytes:
    found = orjson.loads(value)
    del found[rng.choice(FIELDS)]
    return orjson.dumps(found)


def _repeat_field(rng: random.Random, value: bytes) -> bytes:
    name = rng.choice(FIELDS).encode()
    return value[:-1] + b',"%s":%s}' % (name, rng.choice(VALUES))


def _unknown(rng: random.Random, value: bytes) -> bytes:
    depth = rng.choice([1, 100, 500, 5000])
    deep = (b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth)
    inner = rng.choice([*VALUES, *deep])
    return value[:-1] + b',"more":%s}' % inner


def _twice(rng: random.Random, value: bytes) -> bytes:
    return value + rng.choice([b",", b"\n", b"", b" "]) + value


def _wrap(rng: random.Random, value: bytes) -> bytes:
    around = [(b"[", b"]"), (b'{"a":', b"}"), (b'"', b'"'), (b"\xef\xbb\xbf", b"")]
    before, after = rng.choice(around)
    return before + value + after


def _space(rng: random.Random, value: bytes) -> bytes:
    return rng.choice([b" \n\t", b"\r\n"]) + value.replace(b",", b" ,\n") + b"  "


def _other(rng: random.Random, value: bytes) -> bytes:
    del value
    return rng.choice([*VALUES, rng.randbytes(rng.randrange(60)), b'{"a":[1,{"b":null}]}', b" "])


def _merge(rng: random.Random, value: bytes) -> bytes:
    """Halves of a record, made to look like one with their neighbours."""
    middle = value.index(b",")
    return rng.choice([value[:middle], b'{"x":[{}', b"{}]}", value[middle + 1 :], b"{" + value])


MUTATIONS: tuple[Mutation, ...] = (
    _flip,
    _cut,
    _insert,
    _replace,
    _replace,
    _replace,
    _drop,
    _repeat_field,
    _unknown,
    _twice,
    _wrap,
    _space,
    _other,
    _merge,
)


def generate(count: int, seed: int) -> Iterator[Record]:
    """Keys and values of records: half of them good, and a few repeated."""
    rng = random.Random(seed)
    world = simulate(World(days=max(1, count // 9000)))
    before: list[Record] = []
    made = 0
    while made < count:
        for key, value in event_records(world):
            if made == count:
                return
            made += 1
            dice = rng.random()
            record: Record = (key, value)
            if dice < 0.02 and before:
                record = rng.choice(before)
            elif dice < 0.03:
                record = (rng.choice([None, b""]), value)
            elif dice < 0.04:
                record = (key, rng.choice([None, b""]))
            elif dice < 0.5:
                record = (key, rng.choice(MUTATIONS)(rng, value))
            before = [*before[-50:], record]
            yield record


@dataclass
class Account:
    """What became of the records."""

    records: int = 0
    predictions: int = 0
    repeated: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """Records that came out twice, or not at all."""
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def add(
        self, records: Sequence[ConsumerRecord], predicted: dict[int, str], letters: dict[int, str]
    ) -> None:
        """Check one micro-batch, by offset: event ids of predictions, causes of dead letters."""
        self.records += len(records)
        self.predictions += len(predicted)
        self.causes.update(letters.values())
        for record in records:
            ways = (record.offset in predicted) + (record.offset in letters)
            if ways == 0 and self._is_repeated(record.value):
                self.repeated += 1
            elif ways != 1:
                self.wrong.append(f"{ways} ways out: key {record.key!r}, value {record.value!r}")
            elif record.offset in predicted:
                self._remember(record.value, predicted[record.offset])

    def _remember(self, value: bytes, event_id: str) -> None:
        event = VALIDATOR.one(value)
        if event.transaction_id != event_id:
            self.wrong.append(f"prediction of {event_id!r} for value {value!r}")
        self._seen.add((event.customer_id, event_id))

    def _is_repeated(self, value: bytes) -> bool:
        try:
            event = VALIDATOR.one(value or b"")
        except BadRecord:
            return False
        return (event.customer_id, event.transaction_id) in self._seen


def new_scoring() -> PartitionScoring:
    """The scoring path on the adapters in memory."""
    scorer = MemoryScorer({1: lambda vectors: vectors[:, :1] * 0})
    state = MemoryFeatureState(PIPELINE.plan)
    return Scoring(PIPELINE, state, scorer, FixedChampion(1), _nothing).partition(0)


async def run(count: int, seed: int, report: Callable[[str], None] = lambda line: None) -> Account:
    """Score generated records in micro-batches of mixed sizes."""
    scoring = new_scoring()
    topics, read, account = PIPELINE.topics, decoder(Prediction).decode, Account()
    rng, offset, waiting = random.Random(seed + 1), 0, list[Record]()
    size = 1
    for number, record in enumerate(generate(count, seed), 1):
        waiting.append(record)
        if len(waiting) < size and number < count:
            continue
        batch = [_record(offset + i, *kv) for i, kv in enumerate(waiting)]
        outputs = await scoring.process(MicroBatch(topics.events, 0, batch, offset, offset))
        predictions = [read(value or b"") for _, value, _ in outputs[topics.predictions]]
        headers = [dict(found) for _, _, found in outputs[topics.dead_letters]]
        account.add(
            batch,
            {int(p.id.partition("-")[2]): p.event_id for p in predictions},
            {int(h["offset"]): h["cause"].decode() for h in headers},
        )
        offset += len(batch)
        waiting, size = [], rng.choice([1, 2, 10, 100, 1000, 2048])
        if account.records // 100_000 > (account.records - len(batch)) // 100_000:
            report(f"{account.records:,} records")
    return account


async def _nothing(*_: Any) -> AsyncIterator[list[ConsumerRecord]]:
    return
    yield


def _record(offset: int, key: bytes | None, value: bytes | None) -> ConsumerRecord:
    return ConsumerRecord(PIPELINE.topics.events, 0, offset, 0, 0, key, value, None, 0, 0, ())


def main() -> None:
    """Print the account; exits with 1 where a record is not accounted for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    account = asyncio.run(run(options.events, options.seed, print))
    print(
        f"{account.records:,} records = {account.predictions:,} predictions + "
        f"{account.causes.total():,} dead letters + {account.repeated:,} repeated"
    )
    print(", ".join(f"{cause} {count:,}" for cause, count in account.causes.most_common()))
    for line in account.wrong[:20]:
        print("not accounted for:", line[:500])
    raise SystemExit(1 if account.wrong else 0)


if __name__ == "__main__":
    main()
