"""A pipeline that predicts numbers, on real servers: trained, served, labelled and measured."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
from aiokafka import ConsumerRecord

from streams.evaluation.totals import Total
from streams.kafka.topics import ensure_topics
from streams.records import Prediction, decoder
from streams.settings import Settings
from tests import amounts
from tests.commands import shown
from tests.faults.harness import Output, Record, Workers, caught_up, publish
from tests.faults.quality import wrong_cells, wrong_drift
from tests.integration.test_trainer import decided, trainer
from tests.synthetic import DAY, START, write_examples
from tests.waiting import until
from workers.environment import find_pipeline
from workers.evaluation.progressive import read_cells
from workers.releases.onnx_files import run, session
from workers.releases.repository import Repository

MODULE = """\
from tests.amounts import declare

pipeline = declare("served-values")
"""
EVENTS = 1500
VECTORS, LABELS = amounts.drawn(EVENTS, seed=41)
BEGINS = START + 7 * DAY


def event(name: str, machine: int, at: float, vector: list[float]) -> Record:
    said = {
        "reading_id": name,
        "machine": f"machine-{machine}",
        "at": datetime.fromtimestamp(at, UTC).isoformat(),
        **dict(zip(("a", "b", "c", "constant"), vector, strict=True)),
    }
    return b"machine-%d" % machine, msgspec.json.encode(said)


def events() -> list[Record]:
    """Half a day of events that no training saw."""
    return [event(f"e{n}", n % 7, BEGINS + n * 28, v) for n, v in enumerate(VECTORS.tolist())]


def later() -> list[Record]:
    """An event of each machine, by whose time the others have matured."""
    return [event(f"later{n}", n, BEGINS + 2 * DAY, [0.0] * 4) for n in range(7)]


def labels() -> list[Record]:
    said = [
        {"event_id": f"e{n}", "label": label, "labelled_at": BEGINS + n * 28 + 3600}
        for n, label in enumerate(LABELS.tolist())
    ]
    return [(b"machine-%d" % (n % 7), msgspec.json.encode(one)) for n, one in enumerate(said)]


async def test_an_amount_is_learnt_served_with_its_quantiles_and_measured(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "served_values.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    pipeline = find_pipeline("served_values")
    settings = settings.model_copy(update={"pipeline": "served_values"})
    await ensure_topics(settings, pipeline)
    topics, trained = pipeline.topics, amounts.made(7)
    await write_examples(settings, topics.examples, trained)
    async with trainer(settings, pipeline):
        now = await decided(settings, pipeline, START + 6 * DAY - 3600)
    made = now.versions[1]
    assert now.champion == 1
    assert made.metrics["wape"] < 0.05
    assert min(made.metrics[name] for name in ("gate.floor", "loss_bound")) > 0

    with Workers(settings, pipeline, tmp_path) as workers:
        running = [workers.start(role) for role in ("score", "label", "evaluate")]
        for one in running:
            await until(one.joined, "it works", within=60.0, said=one.said)
        async with Output(settings, topics.predictions) as out:
            await publish(settings, topics.events, events())
            await out.wait(EVENTS, timeout=60.0)
        await publish(settings, topics.feedback, labels())
        await until(
            lambda: caught_up(settings, pipeline, "label", topics.feedback),
            "labels are read",
            said=running[1].said,
        )
        await publish(settings, topics.events, later())
        async with Output(settings, topics.examples) as examples:
            await examples.wait(len(trained) + EVENTS, timeout=60.0)
        assert await wrong_cells(settings, pipeline) == []
        assert await wrong_drift(settings, pipeline) == []
        assert all(one.alive for one in running), [one.said() for one in running]

    data = Repository(settings.model_repository, pipeline.name).model(1, made.model_sha256)
    _served_is_what_the_file_says(out.records, data)
    cells = [one for one in await read_cells(settings, pipeline) if one.version and not one.slice]
    found = Total.of(cells).measures()
    assert sum(cell.events for cell in cells) == EVENTS
    assert 0.92 <= found["below_0.95"] <= 0.98
    assert found["coverage"] == 1.0
    said = shown(settings, monkeypatch, "models", "quality", "served_values")
    assert f"{found['mae']:.4g}" in said
    assert f"{found['below_0.95']:.1%}" in said


def _served_is_what_the_file_says(records: Sequence[ConsumerRecord], data: bytes) -> None:
    said = run(session(data), VECTORS)
    predictions = [decoder(Prediction).decode(one.value or b"") for one in records]
    assert {(one.version, one.decision) for one in predictions} == {(1, "")}
    scores = {one.event_id: one.score for one in predictions}
    assert scores.keys() == {f"e{n}" for n in range(EVENTS)}
    served = np.array([scores[f"e{n}"] for n in range(EVENTS)])
    assert served == pytest.approx(said, rel=1e-5)
    assert (np.diff(served[:, 1:], axis=1) >= 0).all()
