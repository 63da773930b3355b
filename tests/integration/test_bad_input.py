"""Bad events and bad labels through real workers: one dead letter each, and no harm to the rest."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
from aiokafka import ConsumerRecord

from streams.dead_letters import BEGINNING, WHOLE
from streams.kafka.topics import ensure_topics
from streams.records import Example, Prediction, decoder
from streams.settings import Settings
from tests.faults.harness import Output, Record, Workers, card_fraud_module, publish

T0 = 1_700_000_000.0


def event(name: str, **changes: Any) -> bytes:
    good = {
        "transaction_id": name,
        "customer_id": "ann",
        "terminal_id": "m1",
        "amount": 10.0,
        "tx_time": T0,
    }
    return orjson.dumps({k: v for k, v in {**good, **changes}.items() if v != "absent"})


def events(prefix: str, count: int, **changes: Any) -> list[tuple[bytes, bytes]]:
    """Ann's events, a second apart, with their key."""
    return [(b"ann", event(f"{prefix}{k}", tx_time=T0 + k, **changes)) for k in range(count)]


def raw(name: str, amount: bytes) -> bytes:
    return event(name, amount=-7).replace(b"-7", amount)


BAD: dict[bytes, str] = {
    b"{not json": "malformed",
    b"\xff\xfe\x00": "malformed",
    b'"text"': "invalid",
    b"[]": "invalid",
    b"null": "invalid",
    event("one") + b"," + event("two"): "malformed",
    event("amount", amount="much"): "invalid",
    event("negative", amount=-1): "invalid",
    event("id", transaction_id={"a": 1}): "invalid",
    event("missing", customer_id="absent"): "invalid",
    event("null", customer_id=None): "invalid",
    raw("nan", b"NaN"): "invalid",
    raw("inf", b"Infinity"): "invalid",
    raw("huge", b"1e999"): "invalid",
    event("early", tx_time="1969-12-31T00:00:00Z"): "time",
    event("far", tx_time="9999-01-01T00:00:00Z"): "time",
    event("when", tx_time="yesterday"): "invalid",
    event("number", tx_time=1e300): "time",
    b"{" + b" " * 1_000_000: "malformed",
}

TOLERATED = [
    event("unknown", more={"a": [1]}),
    event("text", amount="12.5"),
    event("large", note="x" * 1_000_000),
]


def headers(letter: ConsumerRecord) -> dict[str, str]:
    return {name: value.decode() for name, value in letter.headers}


async def test_bad_events(settings: Settings, tmp_path: Path) -> None:
    pipeline = card_fraud_module(tmp_path / "work", "bad-events")
    topics = pipeline.topics
    await ensure_topics(settings, pipeline)
    good = [event(f"good{k}", tx_time=T0 + k) for k in range(500)]
    key = b"ann"
    bad: list[Record] = [(key, value) for value in BAD]
    bad += [(key, b""), (key, None), (None, event("keyless")), (b"", event("emptykey"))]
    odd: list[Record] = [(key, value) for value in [*TOLERATED, good[0], good[0]]]
    sent: list[Record] = []
    for k, value in enumerate(good):
        sent.append((key, value))
        if k % 10 == 5 and bad:
            sent.append(bad.pop())
        if k % 10 == 7 and odd:
            sent.append(odd.pop())
    await publish(settings, topics.events, sent, partition=2)
    with Workers(settings, pipeline, tmp_path / "work") as workers:
        worker = workers.start("score")
        async with (
            Output(settings, topics.predictions) as predictions,
            Output(settings, topics.dead_letters) as letters,
        ):
            await predictions.wait(len(good) + len(TOLERATED))
            await letters.wait(len(BAD) + 4)
            await asyncio.gather(predictions.settle(), letters.settle())
        assert worker.alive, worker.said()
    decode = decoder(Prediction).decode
    ids = [decode(record.value).event_id for record in predictions.records]
    assert sorted(ids) == sorted([f"good{k}" for k in range(500)] + ["unknown", "text", "large"])
    found = []
    for letter in letters.records:
        said = headers(letter)
        told = {"cause", "detail", "topic", "partition", "offset", "timestamp"}
        assert set(said) - {"size", "sha256"} == told
        assert (said["topic"], said["partition"]) == (topics.events, "2")
        assert said["detail"]
        at = int(said["offset"])
        was, whole = sent[at]
        kept = whole[:BEGINNING] if whole and len(whole) > WHOLE else whole
        assert (letter.key, letter.value) == (was, kept), "the record as it came"
        assert kept == whole or said["size"] == str(len(whole or b""))
        found.append((at, said["cause"]))
    causes = [
        (at, "missing-key" if not key else BAD[value] if value else "empty")
        for at, (key, value) in enumerate(sent)
        if not key or not value or value in BAD
    ]
    assert sorted(found) == causes


async def test_bad_labels(settings: Settings, tmp_path: Path) -> None:
    pipeline = card_fraud_module(tmp_path / "work", "bad-labels")
    topics = pipeline.topics
    await ensure_topics(settings, pipeline)

    def label(**changes: Any) -> bytes:
        good = {"event_id": "a", "label": 1, "labelled_at": T0 + 1}
        return orjson.dumps({k: v for k, v in {**good, **changes}.items() if v != "absent"})

    key = b"ann"
    bad: dict[Record, str] = {
        (key, b"{not json"): "malformed",
        (key, b"\xff\xfe"): "malformed",
        (key, b""): "empty",
        (key, None): "empty",
        (key, b"{" + b" " * 1_000_000): "malformed",
        (key, b"[]"): "invalid",
        (key, label(event_id=[5])): "invalid",
        (key, label(event_id="absent")): "invalid",
        (key, label(label="stolen")): "label",
        (key, label(label=None)): "invalid",
        (key, label(label=2)): "label",
        (key, label(label=0.5)): "label",
        (key, label(labelled_at="yesterday")): "time",
        (key, label(labelled_at="absent")): "invalid",
        (None, label()): "missing-key",
    }
    good = label(comment="unknown fields are ignored")
    sent: list[Record] = [*bad, (key, good), (key, good)]
    # the events are in the partition that feedback is sent to
    events: list[Record] = [
        (key, event("a")),
        (key, event("b", tx_time=T0 + 1)),
        (key, event("c", tx_time=T0 + 9e5)),
    ]
    await publish(settings, topics.events, events, partition=1)
    await publish(settings, topics.feedback, sent, partition=1)
    with Workers(settings, pipeline, tmp_path / "work") as workers:
        running = [workers.start("score"), workers.start("label")]
        async with (
            Output(settings, topics.examples) as examples,
            Output(settings, topics.dead_letters) as letters,
        ):
            await letters.wait(len(bad))
            await examples.wait(2)
            await asyncio.gather(examples.settle(), letters.settle())
        for worker in running:
            assert worker.alive, worker.said()
    found = []
    for letter in letters.records:
        said = headers(letter)
        assert (said["topic"], said["partition"]) == (topics.feedback, "1")
        at = int(said["offset"])
        was, whole = sent[at]
        kept = whole[:BEGINNING] if whole and len(whole) > WHOLE else whole
        assert (letter.key, letter.value) == (was, kept), "the record as it came"
        assert kept == whole or said["size"] == str(len(whole or b""))
        found.append((at, said["cause"]))
    assert sorted(found) == list(enumerate(bad.values()))
    decode = decoder(Example).decode
    labels = [(e.event_id, e.label) for e in (decode(r.value) for r in examples.records)]
    last = dict(labels)
    assert last == {"a": 1.0, "b": 0.0}
