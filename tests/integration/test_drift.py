"""Drift on real servers: what is served is counted exactly once, and an alarm makes a candidate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from streams.kafka.topics import ensure_topics
from streams.ledger.state import LedgerState
from streams.ledger.topic import append, new_entry
from streams.records import Action, Example, Scored, encode
from streams.settings import Settings
from streams.spec import Pipeline
from streams.spec.layout import unpack
from tests.commands import shown
from tests.faults.harness import Record, Workers, card_fraud_module, caught_up, publish
from tests.faults.quality import wrong_drift
from tests.integration.test_trainer import decided, trainer
from tests.models import linear, manifest
from tests.reference.served import a_reference
from tests.shadowing import T0, vectors
from tests.synthetic import DAY, START, made, write_examples
from tests.waiting import until
from workers.environment import find_pipeline
from workers.releases.onnx_files import run, session
from workers.releases.repository import Repository

EVENTS = 4000
MODULE = """\
from dataclasses import replace

from streams.spec import Retrain
from tests.synthetic import declare

plain = declare("drifting", margin=0.5, confidence=0.999, calibration=10.0)
retrain = Retrain(every="12d", window="14d", validate="1d", evaluate="2d", least_examples=200)
pipeline = replace(plain, policies=replace(plain.policies, retrain=retrain))
"""


def served(pipeline: Pipeline, first: int, after: int) -> list[Record]:
    """Events over three days, by version 1 and now and then by the fallback."""
    rows = np.abs(vectors(pipeline, after)) * 100
    return [
        (
            b"c%d" % (number % 50),
            encode(
                Scored(
                    f"e{number}",
                    T0 + number * 60,
                    {},
                    rows[number].tobytes(),
                    0.05,
                    int(number % 9 > 0),
                    schema=pipeline.schema_hash,
                )
            ),
        )
        for number in range(first, after)
    ]


async def test_what_is_served_is_counted_once_though_its_evaluator_is_killed(
    settings: Settings, tmp_path: Path
) -> None:
    pipeline = card_fraud_module(tmp_path / "work", "drift-counts")
    await ensure_topics(settings, pipeline)
    first = manifest(pipeline, 1, linear(15), reference=a_reference(pipeline))
    await append(settings, pipeline, new_entry(Action.PROMOTE, first, LedgerState(), "first"))
    topic = pipeline.topics.scored
    with Workers(settings, pipeline, tmp_path / "work") as workers:
        worker = workers.start("evaluate")
        await until(worker.joined, "it works", said=worker.said)
        for start in range(0, EVENTS, EVENTS // 4):
            await publish(settings, topic, served(pipeline, start, start + EVENTS // 4))
            if start:
                worker.kill()
                worker = workers.start("evaluate")
        await until(
            lambda: caught_up(settings, pipeline, "evaluate", topic), "all read", said=worker.said
        )
        assert await wrong_drift(settings, pipeline) == []
        assert worker.alive, worker.said()


def answered(pipeline: Pipeline, data: bytes, examples: Sequence[Example]) -> list[Record]:
    """The examples' events, as version 1 served them."""
    scores = run(session(data), unpack([one.vector for one in examples]))[:, 0].tolist()
    return [
        (
            one.key.encode(),
            encode(
                Scored(
                    one.event_id,
                    one.event_time,
                    {},
                    one.vector,
                    score,
                    1,
                    schema=pipeline.schema_hash,
                )
            ),
        )
        for one, score in zip(examples, scores, strict=True)
    ]


def drifted(examples: Sequence[Example], since: float) -> list[Example]:
    """From an event time on, the first column is 4 higher."""
    found = []
    for one in examples:
        vector = unpack([one.vector]).copy()
        vector[0, 0] += 4.0 * (one.event_time >= since)
        found.append(msgspec.structs.replace(one, vector=vector.tobytes()))
    return found


async def test_a_drift_makes_one_candidate_that_says_why(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "drifting.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    pipeline = find_pipeline("drifting")
    settings = settings.model_copy(update={"pipeline": "drifting"})
    await ensure_topics(settings, pipeline)
    topics = pipeline.topics
    await write_examples(settings, topics.examples, made(12.5))
    begins = (START // DAY + 16) * DAY
    async with trainer(settings, pipeline):
        now = await decided(settings, pipeline, START + 12 * DAY - 3600)
        reference = now.versions[1].reference
        assert now.champion == 1
        assert reference is not None
        assert reference.buckets >= 8
        data = Repository(settings.model_repository, pipeline.name).model(
            1, now.versions[1].model_sha256
        )
        later = drifted(made(6, seed=1, first=12.5), begins)
        with Workers(settings, pipeline, tmp_path) as workers:
            worker = workers.start("evaluate")
            await publish(settings, topics.scored, answered(pipeline, data, later))
            await until(
                lambda: caught_up(settings, pipeline, "evaluate", topics.scored),
                "all is counted",
                said=worker.said,
            )
        assert await wrong_drift(settings, pipeline) == []
        # nothing can be learned of it before its labels have matured
        await write_examples(settings, topics.examples, later)
        now = await decided(settings, pipeline, begins + DAY)
    candidate = now.versions[max(now.versions)]
    assert candidate.label_watermark == begins + DAY
    assert candidate.cause.startswith("drift of version 1 from ")
    assert "a (mean 2.98" in candidate.cause
    assert "constant" not in candidate.cause
    assert [number for number, one in now.versions.items() if one.cause] == [2]
    assert "alarm" in shown(settings, monkeypatch, "models", "drift", "drifting")
    said = shown(settings, monkeypatch, "models", "show", "2", "drifting")
    assert candidate.cause[:30] in said
