"""A program publishes events and labels, and is told what was predicted, or why nothing was."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.client import Client
from streams.errors import BadRecord, ConfigurationError, Unavailable
from streams.kafka.reading import read_topic
from streams.kafka.topics import ensure_topics
from streams.settings import Settings
from tests.faults.harness import Workers
from tests.synthetic import Reading, declare
from tests.waiting import until
from workers.cli import app
from workers.environment import environment

PIPELINE = declare("asked")
MODULE = "from tests.synthetic import declare\npipeline = declare('asked')\n"


def reading(number: int) -> dict[str, object]:
    return {
        "reading_id": f"r{number}",
        "machine": f"m{number % 3}",
        "at": datetime.now(UTC),
        **dict.fromkeys(("a", "b", "c", "constant"), 1.0),
    }


@pytest.fixture
async def client(settings: Settings, tmp_path: Path) -> AsyncIterator[Client]:
    """A client, while a scoring worker runs."""
    await ensure_topics(settings, PIPELINE)
    (tmp_path / "asked.py").write_text(MODULE)
    with Workers(settings, PIPELINE, tmp_path) as workers:
        scorer = workers.start("score")
        await until(scorer.joined, "it has partitions", said=scorer.said)
        async with Client(PIPELINE, settings) as made:
            yield made


async def test_it_asks_and_is_answered(client: Client, settings: Settings) -> None:
    found = await client.predict(reading(1))
    assert (found.event_id, found.version, found.degraded) == ("r1", 0, True)
    many = await asyncio.gather(*(client.predict(reading(n)) for n in range(2, 30)))
    assert [one.event_id for one in many] == [f"r{n}" for n in range(2, 30)]
    whole = Reading.model_validate(reading(30))
    assert (await client.predict(whole)).event_id == "r30"
    async with client.predictions() as seen:
        assert await client.send(reading(31)) == "r31"
        assert (await anext(seen)).event_id == "r31"
    with pytest.raises(TimeoutError, match=r"no prediction of event 'r1' in 1 s .* is a new one"):
        await client.predict(reading(1), timeout=1.0)
    await client.label("r1", "m1", 1)
    [label] = await read_topic(settings, PIPELINE.topics.feedback)
    said = json.loads(label.value or b"")
    assert (said["event_id"], said["label"], label.key) == ("r1", 1, b"m1")


async def test_what_is_refused_is_said(client: Client) -> None:
    with pytest.raises(BadRecord) as refused:
        await client.predict({**reading(100), "a": "much"})
    assert refused.value.cause
    assert "a" in refused.value.detail
    with pytest.raises(ValueError, match="has no 'machine'"):
        await client.send({"reading_id": "r101"})


async def test_who_names_no_broker_or_one_that_is_away_is_told() -> None:
    with pytest.raises(ConfigurationError, match="DRIFTLOOP_KAFKA names no broker"):
        Client(PIPELINE, Settings())
    away = Client(PIPELINE, Settings(kafka="127.0.0.1:1", connect_timeout=0.5))
    with pytest.raises(Unavailable):
        await away.__aenter__()


def test_neither_faust_nor_torch_is_loaded() -> None:
    asked = "import sys, streams.client; print({'faust', 'mode', 'torch'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


async def test_a_file_is_sent(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = declare("filed")
    (tmp_path / "filed.py").write_text(MODULE.replace("asked", "filed"))
    monkeypatch.syspath_prepend(tmp_path)
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    rows = [{**reading(n), "at": 1_700_000_000 + n} for n in range(50)]
    lines = ["reading_id,machine,at,a,b,c,constant"]
    lines += [",".join(str(value) for value in row.values()) for row in rows]
    (tmp_path / "events.csv").write_text("\n".join(lines))
    label = {"event_id": "r0", "machine": "m0", "label": 1, "labelled_at": 1_700_000_010}
    (tmp_path / "labels.ndjson").write_text(json.dumps(label))
    files = [str(tmp_path / "events.csv"), "--labels", str(tmp_path / "labels.ndjson")]
    done = await asyncio.to_thread(CliRunner().invoke, app, ["send", "filed", *files])
    assert "published 51 records" in done.output, done.output
    events = await read_topic(settings, declared.topics.events)
    assert {json.loads(one.value or b"")["reading_id"] for one in events} == {
        f"r{n}" for n in range(50)
    }
    [sent] = await read_topic(settings, declared.topics.feedback)
    assert (sent.key, json.loads(sent.value or b"")["event_id"]) == (b"m0", "r0")
    wrong = await asyncio.to_thread(CliRunner().invoke, app, ["send", "filed"])
    assert "nothing to send" in str(wrong.exception)


MACHINE = """
from pydantic import BaseModel, create_model
from streams import Cleaning, Column, Event, Feedback, Model, Pipeline

names = [f"f{n}" for n in range(1, 10)]
fields = dict.fromkeys(("event_id", "unit"), str) | dict.fromkeys(("at", *names), float)
pipeline = Pipeline(
    name="shuttle",
    event=Event(create_model("Reading", **fields), id="event_id", key="unit", time="at"),
    cleaning=Cleaning(),
    features=[Column(name) for name in names],
    model=Model(network=lambda features: features),
    feedback=Feedback(horizon="2h"),
)
"""


async def test_a_world_is_sent(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shuttle.py").write_text(MACHINE)
    monkeypatch.syspath_prepend(tmp_path)
    for name, value in environment(settings).items():
        monkeypatch.setenv(name, value)
    asked = ["send", "shuttle", "--world", "machine", "--limit", "30"]
    done = await asyncio.to_thread(CliRunner().invoke, app, asked)
    assert "published 60 records" in done.output, done.output
    events = await read_topic(settings, "shuttle.events")
    labels = await read_topic(settings, "shuttle.feedback")
    published = {json.loads(one.value or b"")["event_id"]: one.key for one in events}
    assert len(published) == 30
    assert {json.loads(one.value or b"")["event_id"]: one.key for one in labels} == published
    assert set(json.loads(labels[0].value or b"")) == {"event_id", "label", "labelled_at"}
