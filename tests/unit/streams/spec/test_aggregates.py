"""Windows of single events and of classes: what a pipeline's author gets, event by event."""

from __future__ import annotations

from enum import Enum
from statistics import pstdev
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel

from streams.adapters.redis.wire import Wire
from streams.pipelines.card_fraud import pipeline as card_fraud
from streams.spec import (
    Cleaning,
    Column,
    Count,
    CountDistinct,
    Decision,
    Event,
    Feature,
    Feedback,
    First,
    LabelRate,
    Lag,
    Last,
    Max,
    Min,
    Model,
    Pipeline,
    Std,
    TimeSince,
)
from streams.spec.aggregates import Window
from streams.spec.layout import unpack
from streams.spec.windows import Kind, Scan
from streams.testing import Rehearsal, sample_events


class Shop(Enum):
    CORNER = "corner"
    MALL = "mall"


class Payment(BaseModel):
    payment_id: str
    card: str
    at: float
    amount: float = 0.0
    shop: Shop | None = None
    city: str = ""


def declare(*features: Feature, **changes: Any) -> Pipeline:
    parts: dict[str, Any] = {
        "name": "payments",
        "event": Event(Payment, id="payment_id", key="card", time="at"),
        "features": features,
        "model": Model(network=lambda features: features, outputs=3),
        "decision": Decision(classes=("good", "late", "lost")),
        "feedback": Feedback(horizon="10s", missing=0, keep="1d", classes=("good", "late", "lost")),
        "cleaning": Cleaning(missing={"shop": "corner"}),
    }
    return Pipeline(**{**parts, **changes})


T0 = 1_700_000_000


def pay(at: int, amount: float = 0.0, **changes: Any) -> dict[str, Any]:
    identity = f"{at}-{amount}-{changes}"
    return {"payment_id": identity, "card": "c", "at": T0 + at, "amount": amount, **changes}


async def served(feature: Window, *events: dict[str, Any]) -> list[float]:
    """The feature's value in each event."""
    result = await Rehearsal(declare(feature)).score(events)
    assert not result.dead_letters
    return [value for one in result.scored for value in unpack([one.vector])[0].tolist()]


OVER: dict[str, Any] = {"key": "card", "over": "10s"}
WORTH: dict[str, Any] = {**OVER, "field": "amount"}

EVENTS = [pay(0, 3), pay(4, 1), pay(4, 7), pay(11, 5), pay(40, 2), pay(8, 9)]
"""(40 - 10, 40] holds one event; the last one is late."""

CASES: list[tuple[Any, list[float]]] = [
    (Min(**WORTH), [3, 1, 1, 1, 2, 1]),
    (Max(**WORTH), [3, 3, 7, 7, 2, 9]),
    (First(**WORTH), [3, 3, 3, 1, 2, 3]),
    (Last(**WORTH), [0, 3, 1, 7, 0, 7]),
    (Last(**WORTH, default=-1.0), [-1, 3, 1, 7, -1, 7]),
    (Last(**WORTH, delay="4s", default=-1.0), [-1, 3, 3, 7, -1, 7]),
    (Lag(**WORTH, back=2, default=-1.0), [-1, -1, 3, 1, -1, 1]),
    (Max(**WORTH, delay="4s", default=-1.0), [-1, 3, 3, 7, -1, 7]),
    (TimeSince(**OVER), [10, 4, 0, 7, 10, 4]),
    (TimeSince(**OVER, default=-1.0), [-1, 4, 0, 7, -1, 4]),
    (TimeSince(**OVER, delay="5s"), [15, 15, 15, 7, 15, 8]),
    (Std(**WORTH), [0, 1, pstdev([3, 1, 7]), pstdev([1, 7, 5]), 0, pstdev([3, 1, 7, 9])]),
    (Std(**WORTH, delay="30s"), [0] * 6),
    (CountDistinct(**WORTH), [1, 2, 3, 3, 1, 4]),
    (CountDistinct(**WORTH, delay="30s"), [0] * 6),
]


@pytest.mark.parametrize(("feature", "expected"), CASES, ids=[str(one.label) for one, _ in CASES])
async def test_what_is_found_in_a_window(feature: Window, expected: list[float]) -> None:
    if feature.newest == 30:  # a window that no event has reached yet
        expected = expected[:-2]
    found = await served(feature, *EVENTS[: len(expected)])
    assert found == pytest.approx(expected, rel=1e-6)


async def test_a_deviation_survives_a_mean_that_is_a_billion_times_as_large() -> None:
    values = [4e9 + value for value in (4, 7, 13, 16)]
    events = [pay(number, value) for number, value in enumerate(values)]
    [*_, last] = await served(Std(**WORTH), *events)
    assert last == pytest.approx(22.5**0.5, rel=1e-6)


async def test_categories_are_told_apart_by_how_they_are_spelt() -> None:
    events = [pay(0, shop="corner"), pay(1, shop="mall"), pay(2, shop=None), pay(3, shop="mall")]
    assert await served(CountDistinct(**OVER, field="shop"), *events) == [1, 2, 2, 2]
    events = [pay(n, city=city) for n, city in enumerate(["Rome", "rome", "", "Rome", "\u0130"])]
    assert await served(CountDistinct(**OVER, field="city"), *events) == [1, 2, 3, 3, 4]


async def test_repeated_events_are_found_once() -> None:
    features = Lag(**WORTH), TimeSince(**OVER), Count(**OVER)
    pipeline = declare(*features, cleaning=Cleaning(missing={"shop": "mall"}, duplicates="1h"))
    result = await Rehearsal(pipeline).score([pay(0, 1), pay(2, 5), pay(2, 5), pay(3, 6)])
    vectors = [unpack([one.vector])[0].tolist() for one in result.scored]
    assert vectors == [[0, 10, 1], [1, 2, 2], [5, 1, 3]]


RATES = [
    LabelRate(key="card", over="1h", delay="10s", class_=0),
    LabelRate(key="card", over="1h", delay="10s", class_=1),
    LabelRate(key="card", over="1h", delay="10s", class_=2, smooth=(0.5, 2)),
    LabelRate(key="card", over="1h", delay="10s"),
]


async def test_rates_of_classes_follow_labels_and_their_corrections() -> None:
    rehearsal = Rehearsal(declare(*RATES))

    async def rates(at: int) -> list[float]:
        result = await rehearsal.score([pay(at)])
        return [round(rate, 6) for rate in unpack([result.scored[0].vector])[0].tolist()]

    async def label(event: dict[str, Any], word: str, at: int) -> None:
        name = event["payment_id"]
        said = [{"event_id": name, "label": word, "labelled_at": T0 + at}]
        assert not (await rehearsal.label(said)).dead_letters

    assert await rates(0) == [0, 0, 0.5, 0], "no event: 0, or the prior"
    same_second = [pay(1, 1), pay(1, 2), pay(1, 3)]
    await rehearsal.score(same_second)
    await label(same_second[0], "late", 2)
    await label(same_second[1], "lost", 2)
    assert await rates(20) == [0.5, 0.25, round((1 + 1) / (4 + 2), 6), 0.75]
    await label(same_second[1], "late", 3)
    await label(same_second[0], "good", 4)
    await label(same_second[2], "good", 4)
    assert await rates(25) == [0.75, 0.25, round(1 / (4 + 2), 6), 0.25]


def test_the_plan_keeps_what_scans_need_and_shares_the_rest() -> None:
    pipeline = declare(
        Count(**OVER),
        Max(**WORTH),
        Min(**WORTH),
        Last(**WORTH),
        Lag(**WORTH),
        Lag(**WORTH, delay="5s", back=3),
        CountDistinct(**OVER, field="city"),
        name="shared",
    )
    [key] = pipeline.plan.keys
    assert (key.values, key.scanned) == ((), ("amount", "city"))
    assert pipeline.plan.texts == {"city"}
    assert key.scans == (
        Scan(Kind.MIN, (0, 2), "amount"),
        Scan(Kind.MAX, (0, 2), "amount"),
        Scan(Kind.BACK, (0, 2), "amount", 2),  # this event is the newest; Last is a Lag of 1
        Scan(Kind.DISTINCT, (0, 2), "city"),
        Scan(Kind.BACK, (1, 3), "amount", 3),
    )
    assert pipeline.feature_names[4:6] == ("card_lag_amount_10s", "card_lag3_amount_10s_after_5s")


def test_what_a_window_finds_is_part_of_what_the_vector_means() -> None:
    def schema(feature: Window) -> str:
        return declare(feature).schema_hash

    names: dict[str, Any] = {"name": "it"}
    distinct: list[Window] = [
        Min(**WORTH, **names),
        Max(**WORTH, **names),
        Max(**WORTH, **names, default=1.0),
        Lag(**WORTH, **names),
        Lag(**WORTH, **names, back=2),
        LabelRate(key="card", over="1h", delay="10s", **names),
        LabelRate(key="card", over="1h", delay="10s", class_=1, **names),
        LabelRate(key="card", over="1h", delay="10s", smooth=(0.5, 2), **names),
        LabelRate(key="card", over="1h", delay="10s", smooth=(0.5, 3), **names),
    ]
    assert len(set(map(schema, distinct))) == len(distinct)


def test_pipelines_of_counts_and_sums_keep_their_models_and_their_state() -> None:
    """A change of these makes every model and all of Redis worthless at an update."""
    assert card_fraud.schema_hash == "9c9b3dec68b4c4c0"
    assert Wire("p", card_fraud.plan).prefix == "{p}8dd05d"


async def test_samples_and_vectors_of_every_kind() -> None:
    pipeline = declare(Column("amount"), *(one for one, _ in CASES[:4]), *RATES)
    pipeline = declare(*pipeline.features, CountDistinct(**{**OVER, "over": "1d"}, field="city"))
    result = await Rehearsal(pipeline).score(sample_events(pipeline, 200))
    vectors: NDArray[np.float32] = unpack([one.vector for one in result.scored])
    assert vectors.shape == (200, len(pipeline.feature_names))
    assert 1 < vectors[:, -1].max() < 20, "few cities, each often"
