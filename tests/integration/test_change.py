"""A pipeline changes under load: a feature comes, another goes, and nobody is served the fallback.

Its workers are restarted one by one with a changed module. An oracle that knows what was sent
computes every vector that was logged, and onnxruntime every score, by the version's own columns.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aiokafka import ConsumerRecord
from numpy.typing import NDArray

from streams.aio.cancelling import cancel
from streams.kafka.connection import producer
from streams.kafka.topics import ensure_topics
from streams.ledger.state import LedgerState
from streams.ledger.topic import read_state
from streams.records import FeedbackRecord, Manifest, Prediction, Scored, encode
from streams.settings import Settings
from streams.spec import Column, Count, Mean, Pipeline, Retrain, Sum
from streams.spec.features import Feature
from streams.versions import pick
from tests.faults.harness import Output, Worker, Workers
from tests.models import linear, promote_first
from tests.synthetic import DAY, START, declare
from tests.waiting import until
from workers.releases.onnx_files import run, session
from workers.releases.repository import Repository

_MODULE = "from tests.integration.test_change import {stage} as pipeline\n"
_STEP = 900.0
"""Seconds of event time between two events."""
_RATE = 60
"""Events a second."""

_declared = declare(
    "changing", margin=0.5, confidence=0.999, calibration=10.0, alerts=10.0, least_support=5
)
_retrain = Retrain(every="2d", window="6d", validate="1d", evaluate="1d", least_examples=60)
_KEPT: list[Feature] = [
    Column("a"),
    Column("c", normalise=False),
    Count(key="machine", over="1d"),
    Sum(key="machine", over="1d", field="a"),
]
_GOES = Column("b")
_COMES = Mean(key="machine", over="2d", field="b")

_ONLY_A = np.array([[0], [0.6], [0], [0], [0]], np.float32)

first = replace(
    _declared,
    model=replace(_declared.model, parameters={"epochs": 10, "batch_size": 16}),
    features=[_GOES, *_KEPT],
    policies=replace(_declared.policies, retrain=_retrain),
)
wider = replace(first, features=[_COMES, _GOES, *_KEPT])
retiring = replace(first, features=[_COMES, *_KEPT], retiring=[_GOES])
narrower = replace(first, features=[_COMES, *_KEPT])
STAGES = {one.schema_hash: one for one in (first, wider, retiring, narrower)}


class Sender:
    """Events at a steady rate until it is cancelled, each with its label."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._random = np.random.default_rng(3)
        self.sent: list[dict[str, Any]] = []

    async def run(self) -> None:
        async with producer(self._settings, linger_ms=5) as out:
            while True:
                for _ in range(_RATE // 10):
                    await self._send(out)
                await asyncio.sleep(0.1)

    async def _send(self, out: Any) -> None:
        number = len(self.sent)
        a, b, c = (np.round(4 * self._random.normal([3, -50, 0], [2, 10, 1])) / 4).tolist()
        at = START + _STEP * number
        event: dict[str, Any] = {"reading_id": f"e{number}", "machine": f"m{number % 13}", "at": at}
        event |= {"a": a, "b": b, "c": c, "constant": 7.0}
        self.sent.append(event)
        key = event["machine"].encode()
        await out.send(first.topics.events, key=key, value=json.dumps(event).encode())
        odds = 1.2 * (a - 3) / 2 - 1.5 * (b + 50) / 10
        label = float(self._random.random() < 1 / (1 + np.exp(-odds)))
        told = FeedbackRecord(event["reading_id"], label, at + 3600)
        await out.send(first.topics.feedback, key=key, value=encode(told))


def expected(sent: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By event id, every number that some stage's features make of it."""
    before = defaultdict[str, list[dict[str, Any]]](list)
    found = {}
    for event in sent:
        known = before[event["machine"]]
        known.append(event)
        day, two = (
            [one for one in known if event["at"] - one["at"] < days * DAY] for days in (1, 2)
        )
        found[event["reading_id"]] = {
            **{name: event[name] for name in ("a", "b", "c")},
            "machine_count_1d": len(day),
            "machine_sum_a_1d": sum(one["a"] for one in day),
            "machine_mean_b_2d": sum(one["b"] for one in two) / len(two),
        }
    return found


class Change:
    """The pipeline's workers, which take up a changed module one by one."""

    def __init__(self, settings: Settings, workers: Workers, folder: Path) -> None:
        self._settings = settings
        self._workers = workers
        self._module = folder / "changing.py"
        self.scorers: list[Worker] = []

    def write(self, stage: str) -> None:
        self._module.write_text(_MODULE.format(stage=stage))

    async def start(self) -> None:
        self.scorers = [self._workers.start("score") for _ in range(2)]
        labeller = self._workers.start("label")
        for worker in (*self.scorers, labeller):
            await until(worker.joined, "it has partitions", 120, worker.said)

    async def deploy(self, stage: str) -> None:
        """Restart the scoring workers, one after the other, with another module."""
        self.write(stage)
        for at, worker in enumerate(self.scorers):
            worker.end()
            self.scorers[at] = again = self._workers.start("score")
            await until(again.joined, f"it has partitions: {stage}", 120, again.said)

    async def promoted(self, pipeline: Pipeline) -> Manifest:
        """Have the trainer promote a version that learnt from the pipeline's rows."""
        trainer = self._workers.start("trainer")
        now = LedgerState()

        async def serves() -> bool:
            nonlocal now
            now = await read_state(self._settings, pipeline)
            return now.manifest is not None and now.manifest.schema_hash == pipeline.schema_hash

        await until(serves, "a version of the changed pipeline serves", 240, trainer.said)
        trainer.end()
        assert now.manifest is not None
        return now.manifest


@asynccontextmanager
async def sending(settings: Settings) -> AsyncIterator[Sender]:
    """Events while the block runs."""
    sender = Sender(settings)
    task = asyncio.create_task(sender.run())
    try:
        yield sender
    finally:
        await cancel(task)


async def test_features_come_and_go_and_every_event_is_answered_by_a_model(
    settings: Settings, tmp_path: Path
) -> None:
    await ensure_topics(settings, first)
    await promote_first(settings, first, linear(5, -1.8, factor=_ONLY_A))
    with Workers(settings, first, tmp_path) as workers:
        change = Change(settings, workers, tmp_path)
        change.write("first")
        await change.start()
        async with Output(settings, first.topics.predictions) as out:
            async with sending(settings) as sender:
                await out.wait(100, 120)
                await change.deploy("wider")
                second = await change.promoted(wider)
                assert list(second.columns) == list(wider.feature_names)
                assert second.model.startswith("changing_")
                await change.deploy("retiring")
                third = await change.promoted(retiring)
                assert list(third.columns) == list(narrower.feature_names)
                assert third.model == ""  # as many features as the first has
                await change.deploy("narrower")
                await out.wait(len(sender.sent) + 100, 120)
            await out.wait(len(sender.sent), 120)
            await out.settle()
        await _judge(settings, sender, out.records)


async def _judge(settings: Settings, sender: Sender, records: list[ConsumerRecord]) -> None:
    """Nothing lost, doubled, or answered by the fallback; every vector and score is right."""
    predictions = [msgspec.json.decode(one.value or b"", type=Prediction) for one in records]
    ids = [one.event_id for one in predictions]
    assert sorted(ids) == sorted(one["reading_id"] for one in sender.sent)
    assert [one.event_id for one in predictions if one.degraded or not one.version] == []
    truth, said = expected(sender.sent), {one.event_id: one for one in predictions}
    async with Output(settings, first.topics.scored) as out:
        await out.wait(len(ids), 120)
    known = (await read_state(settings, first)).versions
    repository, seen = Repository(settings.model_repository, first.name), set[tuple[str, int]]()
    groups = defaultdict[tuple[str, int], list[Scored]](list)
    for record in out.records:
        one: Scored = msgspec.json.decode(record.value, type=Scored)
        groups[one.schema, one.version].append(one)
    for (schema, version), scored in groups.items():
        stage = STAGES[schema]
        rows = stage.layout.unpack([one.vector for one in scored])
        wanted: NDArray[np.float32] = np.array(
            [[truth[one.event_id][name] for name in stage.feature_names] for one in scored],
            np.float32,
        )
        np.testing.assert_array_equal(rows, wanted, f"{schema}, version {version}")
        file = session(repository.model(version, known[version].model_sha256))
        scores = run(file, pick(stage, known[version]).of(rows))[:, 0]
        np.testing.assert_allclose([said[one.event_id].score for one in scored], scores, atol=1e-5)
        seen.add((schema, version))
    # each stage was served, and each but the last begins with the version before it
    assert {schema for schema, _ in seen} == set(STAGES)
    assert (wider.schema_hash, 1) in seen
    assert len({version for schema, version in seen if schema == wider.schema_hash}) >= 2
