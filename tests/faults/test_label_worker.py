"""The label worker dies in mid-stream and loses its disk: each example and each label once."""

from __future__ import annotations

import asyncio
import shutil
from collections import defaultdict
from pathlib import Path

import orjson
import pytest

from streams.kafka.topics import ensure_topics
from streams.pipelines.card_fraud import pipeline as card_fraud
from streams.records import Example, Scored, decoder
from streams.settings import Settings
from streams.spec.layout import unpack
from tests.faults.harness import (
    Output,
    Record,
    Workers,
    card_fraud_module,
    caught_up,
    publish,
    trickle,
)
from tests.waiting import until

DAY = 86_400
T0 = 1_700_006_400.0
EVENTS = 6000
CUSTOMERS = 200
LATE = 80
"""Called genuine for want of a label, and found to be a fraud later."""
TERMINALS = 40
STEP = 12 * DAY / EVENTS
RATE = card_fraud.feature_names.index("terminal_id_label_rate_30d_after_7d")
COUNT = card_fraud.feature_names.index("terminal_id_count_30d_after_7d")


def event(number: int, at: float) -> Record:
    customer = f"c{number % CUSTOMERS}"
    value = {
        "transaction_id": f"t{number}",
        "customer_id": customer,
        "terminal_id": f"m{number % TERMINALS}",
        "amount": 10.0,
        "tx_time": at,
    }
    return customer.encode(), orjson.dumps(value)


def label(number: int, value: int, at: float) -> Record:
    word = {"event_id": f"t{number}", "label": value, "labelled_at": at}
    return f"c{number % CUSTOMERS}".encode(), orjson.dumps(word)


def fraud(number: int) -> bool:
    return number // TERMINALS % 5 == 0


def wrongly_accused(number: int) -> bool:
    return number // TERMINALS % 5 == 1


async def test_a_killed_label_worker_loses_and_doubles_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    quick = settings.model_copy(update={"session_timeout_ms": 6000, "batch_records": 128})
    folder = tmp_path / "work"
    pipeline = card_fraud_module(folder, "killed-labelling")
    topics = pipeline.topics
    await ensure_topics(quick, pipeline)
    at = [T0 + STEP * number for number in range(EVENTS)]
    events = [event(number, at[number]) for number in range(EVENTS)]
    labels: list[Record] = []
    for number in range(EVENTS):
        if fraud(number):
            labels += [label(number, 1, at[number] + DAY)] * 2  # said twice
        if wrongly_accused(number):
            labels.append(label(number, 1, at[number] + DAY))
            labels.append(label(number, 0, at[number] + 2 * DAY))
    with Workers(quick, pipeline, folder) as workers:
        async with Output(quick, topics.scored) as scored, Output(quick, topics.examples) as out:
            scoring = workers.start("score")
            first = workers.start("label")
            streams = asyncio.gather(
                trickle(quick, topics.events, events, 1000),
                trickle(quick, topics.feedback, labels, 600),
            )
            await scored.wait(1500)
            first.kill()
            second = workers.start("label", transaction_ms=1000)
            await out.wait(500)
            second.kill()
            shutil.rmtree(settings.state_dir / "labels" / pipeline.name)
            third = workers.start("label")
            await streams
            await scored.wait(EVENTS)

            # a week later all have matured; then each terminal sees an event, after its labels
            later = T0 + 20 * DAY
            await publish(
                quick, topics.events, [event(EVENTS + k, later) for k in range(CUSTOMERS)]
            )
            await out.wait(EVENTS)
            await publish(quick, topics.feedback, [label(LATE, 1, later)])
            await until(lambda: caught_up(quick, pipeline, "label", topics.feedback), "all labels")
            await out.settle()
            probes = [event(EVENTS + CUSTOMERS + k, later + 1) for k in range(CUSTOMERS)]
            await publish(quick, topics.events, probes)
            await scored.wait(EVENTS + 2 * CUSTOMERS)
            check_examples(out)
            check_windows(scored)
            assert scoring.alive, scoring.said()
            assert third.alive, third.said()


def check_examples(out: Output) -> None:
    """One example each, and the right label; more only where a correction says otherwise."""
    decode = decoder(Example).decode
    found: dict[str, list[Example]] = defaultdict(list)
    for record in out.records:
        example = decode(record.value)
        found[example.event_id].append(example)
    assert set(found) == {f"t{number}" for number in range(EVENTS)}
    for event_id, examples in found.items():
        number = int(event_id[1:])
        assert [e.origin == "correction" for e in examples] == [False] + [True] * (
            len(examples) - 1
        ), event_id
        expected = 1.0 if fraud(number) or number == LATE else 0.0
        assert examples[-1].label == expected, event_id
    assert len(found[f"t{LATE}"]) == 2


def check_windows(scored: Output) -> None:
    """The label rate of the last event of each terminal is that of its labels, each once."""
    decode = decoder(Scored).decode
    vectors = {s.event_id: unpack([s.vector])[0] for s in (decode(r.value) for r in scored.records)}
    assert len(vectors) == len(scored.records) == EVENTS + 2 * CUSTOMERS
    for terminal in range(TERMINALS):
        numbers = range(terminal, EVENTS, TERMINALS)
        vector = vectors[f"t{EVENTS + CUSTOMERS + terminal}"]
        frauds = sum(fraud(number) or number == LATE for number in numbers)
        assert vector[COUNT] == len(numbers)
        assert vector[RATE] * vector[COUNT] == pytest.approx(frauds, abs=1e-3)
