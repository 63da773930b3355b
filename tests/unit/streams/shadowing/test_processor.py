"""What the shadow writes of what was served, and that no challenger holds it up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka import ConsumerRecord
from numpy.typing import NDArray
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from streams.adapters.memory.scorer import MemoryScorer
from streams.errors import ModelError, Unavailable
from streams.ports.batches import MicroBatch
from streams.ports.models import Scorer
from streams.records import Example, Scored, Shadowed, decoder, encode
from streams.shadowing.processor import Shadowing
from streams.spec import Decision, Evaluate, Feedback, Model, Policies, Slices
from tests.unit.pipelines import declare

PIPELINE = declare()
TOPICS = PIPELINE.topics
WIDTH = len(PIPELINE.feature_names)
COLUMN = PIPELINE.feature_names[0]
T0 = 1_700_000_000.0
CHAMPION, CHALLENGER = 1, 2
OUTCOMES = ("compared", "seen", "unanswered", "erred", "other_features", "unreadable")
_decode = decoder(Shadowed).decode


@dataclass
class Rivals:
    """A `Challenger` that a test changes."""

    version: int = CHALLENGER
    champion: int = CHAMPION
    since: float = T0
    unseen: float = T0 - 100


def constant(score: float) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    return lambda vectors: np.full((len(vectors), 1), score, np.float32)


def scorer(**networks: Any) -> MemoryScorer:
    """Version 1 says .25, version 2 says .75."""
    return MemoryScorer({CHAMPION: constant(0.25), CHALLENGER: constant(0.75)})


def vector(first: float = 1.0) -> bytes:
    return np.array([first] + [1.0] * (WIDTH - 1), "<f4").tobytes()


def scored(name: str, at: float = T0, version: int = CHAMPION, **changes: Any) -> Scored:
    base = Scored(name, at, {"shopper": "ann"}, vector(), 0.25, version, None, PIPELINE.schema_hash)
    return msgspec.structs.replace(base, **changes)


def example(name: str, at: float = T0, version: int = CHAMPION, **changes: Any) -> Example:
    base = Example(
        event_id=name,
        event_time=at,
        vector=vector(),
        score=0.25,
        version=version,
        label=1.0,
        labelled_at=at + 60,
        origin="feedback",
        key="ann",
        schema=PIPELINE.schema_hash,
    )
    return msgspec.structs.replace(base, **changes)


def batch(topic: str, values: Sequence[bytes | None], partition: int = 0) -> MicroBatch:
    records: list[Any] = [
        ConsumerRecord(topic, partition, at, 0, 0, b"ann", value, None, 0, 0, [])
        for at, value in enumerate(values)
    ]
    return MicroBatch(topic, partition, records, 0, 0)


def batch_of(*given: Scored | Example) -> MicroBatch:
    topic = TOPICS.scored if isinstance(given[0], Scored) else TOPICS.examples
    return batch(topic, [encode(one) for one in given])


async def written(shadowing: Shadowing, work: MicroBatch) -> list[Shadowed]:
    outputs = await shadowing.process(work)
    assert set(outputs) <= {TOPICS.shadow}, "it writes nowhere else"
    return [_decode(value or b"") for _, value, _ in outputs.get(TOPICS.shadow, [])]


@pytest.fixture
def counted() -> Callable[[], dict[str, int]]:
    """How many records had which outcome since the test began."""

    def now() -> dict[str, float]:
        name = "driftloop_shadowed_total"
        return {
            outcome: REGISTRY.get_sample_value(name, {"pipeline": "orders", "outcome": outcome})
            or 0.0
            for outcome in OUTCOMES
        }

    before = now()
    return lambda: {
        outcome: int(count - before[outcome])
        for outcome, count in now().items()
        if count != before[outcome]
    }


async def test_an_event_has_both_scores_and_no_label() -> None:
    shadowing = Shadowing(PIPELINE, scorer(), Rivals())
    work = batch_of(scored("a"))
    outputs = await shadowing.process(work)
    [(key, value, headers)] = outputs[TOPICS.shadow]
    assert (key, headers) == (b"ann", [])
    assert _decode(value or b"") == Shadowed(
        event_id="a",
        event_time=T0,
        champion=CHAMPION,
        champion_score=0.25,
        challenger=CHALLENGER,
        challenger_score=0.75,
        since=T0,
        served=CHAMPION,
        key="ann",
        entities={"shopper": "ann"},
    )


async def test_an_example_has_its_label_too() -> None:
    [found] = await written(Shadowing(PIPELINE, scorer(), Rivals()), batch_of(example("a")))
    assert (found.label, found.labelled_at, found.origin) == (1.0, T0 + 60, "feedback")
    assert (found.champion_score, found.challenger_score, found.key) == (0.25, 0.75, "ann")


@pytest.mark.parametrize("served", [0, CHAMPION, CHALLENGER, 9])
async def test_whoever_served_both_versions_are_compared(served: int) -> None:
    """The score that was served is taken from the record; others are asked for."""
    served_score = {CHAMPION: 0.5, CHALLENGER: 0.625}
    record = scored("a", version=served, score=served_score.get(served, 0.0))
    [found] = await written(Shadowing(PIPELINE, scorer(), Rivals()), batch_of(record))
    assert found.served == served
    assert found.champion_score == (0.5 if served == CHAMPION else 0.25)
    assert found.challenger_score == (0.625 if served == CHALLENGER else 0.75)


@pytest.mark.parametrize("rivals", [Rivals(version=0), Rivals(version=0, champion=0)])
async def test_without_a_challenger_it_reads_and_writes_nothing(rivals: Rivals) -> None:
    asked = scorer()
    asked.networks.clear()
    shadowing = Shadowing(PIPELINE, asked, rivals)
    assert await shadowing.process(batch_of(scored("a"))) == {}
    assert await shadowing.process(batch(TOPICS.scored, [b"{no json"])) == {}


async def test_events_that_had_a_part_in_a_version_are_no_evidence(
    counted: Callable[[], dict[str, int]],
) -> None:
    rivals = Rivals(unseen=T0 - 100, since=T0)
    times = {"trained on": T0 - 101, "between": T0 - 100, "before": T0 - 1, "since": T0}
    work = batch_of(*(example(name, at) for name, at in times.items()))
    found = await written(Shadowing(PIPELINE, scorer(), rivals), work)
    assert {one.event_id for one in found} == {"between", "before", "since"}
    assert {one.since for one in found} == {T0}
    assert counted() == {"seen": 1, "compared": 3}


async def test_an_example_names_the_slices_that_it_is_in() -> None:
    declared = declare(policies=Policies(evaluate=Evaluate(slices=Slices((f"{COLUMN}>0",)))))
    shadowing = Shadowing(declared, scorer(), Rivals())
    schema = declared.schema_hash
    work = batch_of(
        example("in", schema=schema), example("out", vector=vector(-1.0), schema=schema)
    )
    found = await written(shadowing, work)
    assert [one.slices for one in found] == [[f"{COLUMN}>0"], []]


async def test_bad_records_are_counted_and_said_once(
    counted: Callable[[], dict[str, int]],
) -> None:
    good = encode(scored("a"))
    bad = [
        b"",
        b"{no json",
        b"[]",
        good[:-1],
        b"[" * 100_000,
        encode(scored("a", vector=b"1234")),
        encode(scored("a", score=[0.5, 0.5])),
    ]
    other = encode(scored("a", schema="other"))
    shadowing = Shadowing(PIPELINE, scorer(), Rivals())
    with capture_logs() as logs:
        found = await written(shadowing, batch(TOPICS.scored, [*bad, None, other, good]))
        assert await written(shadowing, batch(TOPICS.scored, bad)) == []
    assert [one.event_id for one in found] == ["a"]
    assert counted() == {"unreadable": 2 * len(bad), "other_features": 1, "compared": 1}
    [said] = [line for line in logs if line["log_level"] == "warning"]
    assert (said["topic"], said["offset"]) == (TOPICS.scored, 0)


class Failing:
    """A model server whose challenger fails as told; the champion answers."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.hanging = False
        self.asked = 0

    async def infer(self, version: int, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        if version == CHALLENGER:
            self.asked += 1
            if self.hanging:
                await asyncio.Event().wait()
            if self.error is not None:
                raise self.error
        return np.full((len(vectors), 1), version / 4, np.float32)

    async def close(self) -> None:
        """Nothing to release."""


def not_loaded() -> Unavailable:
    return Unavailable("version 2", "memory", "networks", "not loaded")


async def test_a_dead_challenger_is_waited_for_said_once_and_passed_over(
    counted: Callable[[], dict[str, int]],
) -> None:
    server = Failing(not_loaded())
    shadowing = Shadowing(PIPELINE, server, Rivals(), patience=0.6)
    begun = time.monotonic()
    with capture_logs() as logs:
        assert await written(shadowing, batch_of(scored("a"))) == []
        waited, asked = time.monotonic() - begun, server.asked
        for _ in range(10):
            assert await written(shadowing, batch_of(scored("b"), scored("c"))) == []
    assert 0.55 < waited < 10.0
    assert asked > 1
    assert server.asked == asked + 10, "one attempt for each batch, and no wait"
    assert counted() == {"unanswered": 21}
    [said] = [line for line in logs if line["log_level"] == "error"]
    assert said["version"] == CHALLENGER
    assert said["error"].startswith("version 2: ")
    server.error = None
    with capture_logs() as logs:
        [found] = await written(shadowing, batch_of(scored("d")))
    assert found.event_id == "d"
    assert [line["event"] for line in logs] == ["the challenger answers again"]


async def test_one_that_comes_up_in_time_loses_nothing(
    counted: Callable[[], dict[str, int]],
) -> None:
    server = Failing(not_loaded())
    shadowing = Shadowing(PIPELINE, server, Rivals(), patience=30.0)
    waiting = asyncio.create_task(written(shadowing, batch_of(scored("a"))))
    while server.asked < 2:
        await asyncio.sleep(0)
    server.error = None
    assert [one.event_id for one in await waiting] == ["a"]
    assert counted() == {"compared": 1}


async def test_a_challenger_that_hangs_is_given_up_and_another_gets_its_own_patience() -> None:
    server, rivals = Failing(), Rivals()
    server.hanging = True
    shadowing = Shadowing(PIPELINE, server, rivals, patience=0.05)
    assert await written(shadowing, batch_of(scored("a"))) == []
    rivals.version = 3
    [found] = await written(shadowing, batch_of(scored("b")))
    assert (found.challenger, found.challenger_score) == (3, 0.75)


async def test_a_challenger_that_is_taken_back_ends_the_wait() -> None:
    server, rivals = Failing(not_loaded()), Rivals()
    shadowing = Shadowing(PIPELINE, server, rivals, patience=30.0)
    waiting = asyncio.create_task(written(shadowing, batch_of(scored("a"))))
    while server.asked < 1:
        await asyncio.sleep(0)
    rivals.version = 0
    assert await waiting == []


async def test_events_on_which_the_challenger_errs_have_no_score_of_it(
    counted: Callable[[], dict[str, int]],
) -> None:
    def odd(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        said = np.full((len(vectors), 1), 0.75, np.float32)
        said[vectors[:, 0] < 0] = np.nan
        return said

    asked = scorer()
    asked.networks[CHALLENGER] = odd
    shadowing = Shadowing(PIPELINE, asked, Rivals())
    work = batch_of(scored("good"), scored("bad", vector=vector(-1.0)))
    with capture_logs() as logs:
        for _ in range(2):
            found = await written(shadowing, work)
            assert {one.event_id: one.challenger_score for one in found} == {
                "good": 0.75,
                "bad": None,
            }
    assert counted() == {"compared": 2, "erred": 2}
    assert [line["version"] for line in logs if line["log_level"] == "error"] == [CHALLENGER]


@pytest.mark.parametrize("kind", ["not finite", "wrong"])
async def test_one_that_answers_nothing_of_use_is_not_waited_for(
    kind: str, counted: Callable[[], dict[str, int]]
) -> None:
    server: Scorer = scorer()
    if kind == "wrong":
        server = Failing(ModelError("shape (1, 2)"))
    else:
        assert isinstance(server, MemoryScorer)
        server.networks[CHALLENGER] = constant(float("nan"))
    shadowing = Shadowing(PIPELINE, server, Rivals(), patience=30.0)
    with capture_logs() as logs:
        for _ in range(3):
            [found] = await written(shadowing, batch_of(scored("a")))
            assert (found.champion_score, found.challenger_score) == (0.25, None)
    assert counted() == {"erred": 3}
    assert len([line for line in logs if line["log_level"] == "error"]) == 1


class Counting(MemoryScorer):
    """Takes a turn of the event loop for each request, and counts them."""

    requests = 0

    async def infer(self, version: int, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        self.requests += 1
        await asyncio.sleep(0)
        return await super().infer(version, vectors)


async def test_partitions_share_a_request_and_only_the_wrong_one_suffers() -> None:
    def picky(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        if (vectors[:, 0] < 0).any():
            raise ModelError("cannot")
        return vectors[:, :1]

    asked = Counting({CHALLENGER: picky})
    shadowing = Shadowing(PIPELINE, asked, Rivals())

    async def partition(number: int, sign: float = 1.0) -> list[Any]:
        values = [
            encode(scored(f"{number}-{i}", vector=vector(sign * (number + i / 8))))
            for i in range(4)
        ]
        found = await written(shadowing, batch(TOPICS.scored, values, number))
        return [one.challenger_score for one in found]

    found = await asyncio.gather(*(partition(number) for number in range(1, 5)))
    assert found == [[number + i / 8 for i in range(4)] for number in range(1, 5)]
    assert asked.requests == 1
    beside = await asyncio.gather(partition(1), partition(2, -1.0), partition(3))
    assert [sum(said is not None for said in one) for one in beside] == [4, 0, 4]


async def test_scores_of_several_classes() -> None:
    names = ("a", "b", "c")
    several = declare(
        model=Model(network=lambda features: features, outputs=3),
        decision=Decision(classes=names),
        feedback=Feedback(horizon="1h", missing=0, keep="1h", classes=names),
        features=list(PIPELINE.features)[:4],
    )
    width = len(several.feature_names)

    def says(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.tile(np.array([[0.5, 0.25, 0.25]], np.float32), (len(vectors), 1))

    shadowing = Shadowing(several, MemoryScorer({CHALLENGER: says}, outputs=3), Rivals())
    record = scored(
        "a", score=[0.25, 0.25, 0.5], vector=b"\0" * 4 * width, schema=several.schema_hash
    )
    [found] = await written(shadowing, batch_of(record))
    assert found.champion_score == [0.25, 0.25, 0.5]
    assert found.challenger_score == [0.5, 0.25, 0.25]
