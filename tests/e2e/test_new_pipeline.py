"""A new pipeline, written as a user would from the README: check, score, label, train, publish.

The data is scikit-learn's breast-cancer table: 569 rows, 30 measures, benign or malignant.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from sklearn.datasets import load_breast_cancer

from streams.kafka.connection import client_options
from streams.settings import Settings
from workers.environment import environment

ROOT = Path(__file__).parents[2]
START = 1_700_000_000
EVERY = 60
"""Seconds of event time between two samples."""

MODULE = """
from pydantic import BaseModel, create_model
from sklearn.datasets import load_breast_cancer

from streams.spec import (
    Column, Decision, Event, Feedback, Gate, Model, Pipeline, Policies, Retrain,
)

MEASURES = [name.replace(" ", "_") for name in load_breast_cancer().feature_names]
Sample = create_model(
    "Sample", sample_id=(str, ...), clinic=(str, ...), taken_at=(float, ...),
    **{name: (float, ...) for name in MEASURES},
)


def network(features):
    from torch import nn

    return nn.Sequential(nn.Linear(features, 32), nn.ReLU(), nn.Linear(32, 1))


pipeline = Pipeline(
    name="biopsies",
    event=Event(Sample, id="sample_id", key="clinic", time="taken_at"),
    features=[Column(name) for name in MEASURES],
    model=Model(network=network, parameters={"epochs": 60, "batch_size": 32, "patience": 10}),
    decision=Decision(classes=("malignant", "benign")),
    feedback=Feedback(horizon="30m", keep="1d", classes=("malignant", "benign")),
    policies=Policies(
        retrain=Retrain(every="1h", window="7h", validate="1h", evaluate="1h",
                        least_examples=100, least_positives=10),
        gate=Gate(metric="accuracy", least_support=5),
    ),
)
"""


class Folder:
    """The user's directory, and `driftloop` run in it."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path = path
        (path / "biopsies.py").write_text(MODULE)
        self._environment = {
            **os.environ,
            **environment(settings),
            "PYTHONPATH": str(ROOT),
            "DRIFTLOOP_PARTITIONS": "2",
        }

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "workers.cli", *arguments],
            cwd=self.path,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.path / f"{arguments[0]}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "workers.cli", *arguments],
                cwd=self.path,
                env=self._environment,
                stdout=log,
                stderr=log,
            )


@pytest.fixture
def folder(tmp_path: Path, settings: Settings) -> Folder:
    return Folder(tmp_path, settings)


@pytest.fixture
def workers(folder: Folder) -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def samples() -> tuple[list[dict[str, Any]], list[int]]:
    """Events without their labels, in a fixed order that mixes the classes; and the labels."""
    table = load_breast_cancer()
    names = [name.replace(" ", "_") for name in table.feature_names]
    events = [
        {
            "sample_id": str(i),
            "clinic": f"clinic-{i % 5}",
            "taken_at": START + i * EVERY,
            **dict(zip(names, map(float, row), strict=True)),
        }
        for i, row in enumerate(table.data)
    ]
    return events, [int(label) for label in table.target]


async def publish(
    settings: Settings, topic: str, records: list[tuple[str, dict[str, Any]]]
) -> None:
    async with AIOKafkaProducer(**client_options(settings)) as producer:
        for key, value in records:
            await producer.send(topic, json.dumps(value).encode(), key=key.encode())


async def read(settings: Settings, topic: str, count: int) -> list[dict[str, Any]]:
    """The first `count` records of a topic."""
    consumer = AIOKafkaConsumer(
        topic,
        **client_options(settings),
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    found: list[dict[str, Any]] = []
    async with consumer, asyncio.timeout(45):
        async for record in consumer:
            found.append(json.loads(record.value))
            if len(found) >= count:
                break
    return found


async def test_from_the_first_check_to_a_version_that_serves(
    folder: Folder, settings: Settings, workers: list[subprocess.Popen[bytes]]
) -> None:
    assert "ok biopsies" in await asyncio.to_thread(folder.run, "check", "biopsies")
    workers += [folder.start(role, "biopsies") for role in ("score", "label", "evaluate")]
    events, labels = samples()
    early, late = events[:500], events[500:]
    await until_topics(settings)
    assert "No event has matured yet" in await reported(folder)

    await publish(settings, "biopsies.events", [(e["clinic"], e) for e in early])
    first = await read(settings, "biopsies.predictions", 500)
    assert {p["version"] for p in first} == {0}
    assert all(p["degraded"] for p in first)
    feedback = [
        (
            e["clinic"],
            {"event_id": e["sample_id"], "label": label, "labelled_at": e["taken_at"] + 9},
        )
        for e, label in zip(early, labels, strict=False)
    ]
    await publish(settings, "biopsies.feedback", feedback)
    examples = await read(settings, "biopsies.examples", 450)
    truth = {str(i): label for i, label in enumerate(labels)}
    assert all(example["label"] == truth[example["event_id"]] for example in examples)

    assert await measured(folder, settings) >= 450
    said = await asyncio.to_thread(folder.run, "train", "biopsies")
    assert "version 1 serves" in said, said
    listed = await asyncio.to_thread(folder.run, "models", "list", "biopsies")
    assert "champion: version 1" in listed
    await publish(settings, "biopsies.events", [(e["clinic"], e) for e in late])
    served = (await read(settings, "biopsies.predictions", len(events)))[500:]
    served = [p for p in served if int(p["event_id"]) >= 500]
    assert {p["version"] for p in served} == {1}
    assert not any(p["degraded"] for p in served)
    names = ("malignant", "benign")
    right = sum(p["decision"] == names[labels[int(p["event_id"])]] for p in served)
    assert right / len(served) > 0.9

    page = await reported(folder)
    assert "In the ledger version 1 serves" in page
    assert "Version 1: promote" in page
    assert "the others are not counted here" in page
    assert {path.name for path in folder.path.glob("pictures/*.png")} >= {"confusion.png"}

    for process in workers:
        process.send_signal(signal.SIGINT)
    assert [await asyncio.to_thread(process.wait, 30) for process in workers] == [0, 0, 0]


async def measured(folder: Folder, settings: Settings) -> int:
    """Of how many events it is known how good their answers were, as it is shown."""
    await read(settings, "biopsies.metrics", 1)
    await read(settings, "biopsies.drift", 1)
    shown = await asyncio.to_thread(folder.run, "models", "quality", "biopsies")
    [row] = [line.split() for line in shown.splitlines() if "fallback" in line]
    return int(row[2].replace(",", ""))


async def reported(folder: Folder) -> str:
    """What `driftloop report` writes."""
    said = await asyncio.to_thread(folder.run, "report", "biopsies", "--png", "pictures")
    assert "biopsies-report.html: " in said
    page = (folder.path / "biopsies-report.html").read_text()
    assert len(page) < 1_000_000
    return page


async def until_topics(settings: Settings) -> None:
    """Return when the workers have made the topics."""
    consumer = AIOKafkaConsumer(**client_options(settings))
    async with consumer, asyncio.timeout(30):
        while "biopsies.feedback" not in await consumer.topics():
            await asyncio.sleep(0.2)
