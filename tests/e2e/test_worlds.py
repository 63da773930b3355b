"""A pipeline of each kind on a small world, from its first event to answers of a version.

The servers and the workers are real, and so is the runner (`driftloop demo --pipeline`). The worlds
are small ones, whose labels come soon: of scikit-learn's digits, of NASA's shuttle, and made ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from streams.kafka.reading import read_topic
from streams.records import Prediction, decoder
from streams.settings import Settings
from workers.replays.run import ReplayPlan, stream
from workers.worlds.catalogue import WORLDS
from workers.worlds.digits import read_small
from workers.worlds.machine import MACHINE
from workers.worlds.world import Happening

EVENTS, APART, KNOWN_AFTER = 600, 1.0, 60.0
"""Of each world: how many events, seconds between two, and until the label comes."""
START = 1_700_000_000.0
MODULE = """
from dataclasses import replace

from streams import Retrain
from streams.pipelines.{name} import pipeline as whole

retrain = Retrain("300s", "1h", "60s", "60s", least_examples=100{positives})
gate = replace(whole.policies.gate, least_support=1)
parameters = {{**whole.model.parameters, "batch_size": 16, "learning_rate": 3e-3, "epochs": 40}}
pipeline = replace(
    whole,
    name="small-{name}",
    model=replace(whole.model, parameters=parameters),
    feedback=replace(whole.feedback, horizon="60s"),
    policies=replace(whole.policies, retrain=retrain, gate=gate),
)
"""


def digits() -> Iterator[tuple[str, dict[str, Any], float]]:
    for found in read_small():
        yield found.key, dict(found.fields), found.label or 0.0


def machine(home: Path) -> Iterator[tuple[str, dict[str, Any], float]]:
    for found in MACHINE.read(home):
        yield found.key, dict(found.fields), found.label or 0.0


def mail() -> Iterator[tuple[str, dict[str, Any], float]]:
    draw = random.Random(1)
    for _ in range(EVENTS):
        spam = draw.random() < 0.3
        words = draw.choices(["win", "money", "now"] if spam else ["tea", "at", "five"], k=6)
        fields = {"subject": "hello", "body": " ".join(words)}
        yield f"sender-{draw.randrange(9)}", fields, float(spam)


def groceries() -> Iterator[tuple[str, dict[str, Any], float]]:
    draw = random.Random(2)
    for number in range(EVENTS):
        amount, ahead = (draw.gauss(20 + 10 * (number % 8), 2) for _ in "ab")
        yield f"category-{number % 8}", {"amount": amount, "weekday": 1 + number % 7}, ahead


@pytest.mark.parametrize("make", [digits, machine, mail, groceries])
async def test_a_version_is_promoted_and_answers(
    make: Any, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = make.__name__
    positives = "" if name == "groceries" else ", least_positives=2"
    (module := tmp_path / f"small_{name}.py").write_text(
        MODULE.format(name=name, positives=positives)
    )

    def read(*homes: Path) -> Iterator[Happening]:
        for n, (key, fields, label) in enumerate(islice(make(*homes), EVENTS)):
            at = START + APART * n
            yield Happening(f"e{n}", key, at, fields, label, at + KNOWN_AFTER)

    packages = MACHINE.packages if name == "machine" else ()
    monkeypatch.setitem(WORLDS, name, replace(WORLDS[name], read=read, packages=packages))
    found = await stream(ReplayPlan(str(module), name, EVENTS, since=0.0), settings)
    assert found.events == EVENTS
    assert found.early == 0
    first, *_ = found.promoted
    records = await read_topic(settings, f"small-{name}.predictions")
    answers = [decoder(Prediction).decode(one.value) for one in records if one.value]
    assert len({one.event_id for one in answers}) == len(answers) == EVENTS
    by_version = {one.event_id for one in answers if one.version == first}
    assert found.judged > 100
    assert len(by_version) >= 100
    assert not any(one.degraded for one in answers if one.version)
    [everything, *_] = found.spans
    assert everything.loop.get("WAPE", 0.0) < 0.3
    assert everything.loop.get("accuracy", 1.0) > 0.6
