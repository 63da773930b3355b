"""What producers send in earnest: an event spoils nothing but itself, and is itself alone."""

from __future__ import annotations

import enum
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel, field_validator

from streams.adapters.memory.scorer import FixedChampion, MemoryScorer
from streams.adapters.memory.state import MemoryFeatureState
from streams.errors import BadRecord, PipelineError, TooManyInvalid
from streams.ports.batches import MicroBatch, SourceRecord
from streams.ports.features import FoldBatch, Folded
from streams.scoring.partition import PartitionScoring
from streams.scoring.processor import Scoring
from streams.spec import (
    Bucket,
    Cleaning,
    Column,
    Columns,
    Count,
    Event,
    Feedback,
    Invalid,
    LabelRate,
    Mean,
    Model,
    Pipeline,
    Policies,
    Sum,
    Transform,
)
from streams.spec.layout import unpack
from streams.testing import Rehearsal
from tests.unit.streams.scoring.test_processor import nothing, records_of


class Payment(BaseModel):
    id: str | None = None
    number: int = 0
    customer: int = 0
    at: float
    points: int = 0
    amount: float = 1.0


class Named(Payment):
    id: str


class Numbered(Payment):
    number: int


def declare(schema: type[BaseModel] = Named, **changes: Any) -> Pipeline:
    parts: dict[str, Any] = {
        "name": "payments",
        "event": Event(
            schema, id="number" if schema is Numbered else "id", key="customer", time="at"
        ),
        "features": [
            Column("points"),
            Count(key="customer", over="1d"),
            Sum(key="customer", over="7d", field="amount"),
            Mean(key="customer", over="7d", field="amount"),
        ],
        "model": Model(network=lambda features: None),
        "feedback": Feedback(horizon="1h"),
    }
    return Pipeline(**{**parts, **changes})


T0 = 1_700_000_000
HUGE = 10**400


def pay(nth: int, **changes: Any) -> dict[str, Any]:
    return {"id": f"p{nth}", "number": nth, "customer": 7, "at": T0 + nth, **changes}


@pytest.mark.parametrize("field", ["points", "amount", "at", "customer"])
@pytest.mark.parametrize("sign", [1, -1])
async def test_a_number_of_four_hundred_digits_costs_one_record(field: str, sign: int) -> None:
    result = await Rehearsal(declare()).score(
        [pay(1), pay(2, **{field: sign * HUGE}), pay(3, customer=8)]
    )
    assert [p.event_id for p in result.predictions] == ["p1", "p3"]
    [letter] = result.dead_letters
    assert letter["cause"] in ("invalid", "not-finite", "time")


@pytest.mark.parametrize("first", [2**53, 1161888007138312192, 2**63 - 2, 2**70])
async def test_whole_numbers_that_differ_by_one_are_different_entities(first: int) -> None:
    pipeline = declare(
        features=[
            Count(key="customer", over="1d"),
            LabelRate(key="customer", over="7d", delay="1h"),
        ]
    )
    result = await Rehearsal(pipeline).score(
        [pay(1, customer=first), pay(2, customer=first + 1), pay(3, customer=first)]
    )
    assert unpack([s.vector for s in result.scored])[:, 0].tolist() == [1.0, 1.0, 2.0]
    assert [s.entities for s in result.scored] == [
        {"customer": str(first)},
        {"customer": str(first + 1)},
        {"customer": str(first)},
    ]


async def test_ids_that_are_whole_numbers_keep_every_digit() -> None:
    first = 2**60
    result = await Rehearsal(declare(Numbered)).score(
        [pay(1, number=first), pay(2, number=first + 1)]
    )
    assert [p.event_id for p in result.predictions] == [str(first), str(first + 1)]


@pytest.mark.parametrize("amount", [1e40, -1e40, 3e38, 1e300])
async def test_a_value_that_would_spoil_a_sum_is_rejected_before_it_is_folded(
    amount: float,
) -> None:
    rehearsal = Rehearsal(declare())
    result = await rehearsal.score([pay(1), pay(2, amount=amount), pay(3)])
    assert [letter["cause"] for letter in result.dead_letters] == ["not-finite"]
    later = await rehearsal.score([pay(4)])
    assert later.dead_letters == []
    assert unpack([later.scored[0].vector])[0, 1:].tolist() == [3.0, 3.0, 1.0]


async def test_sums_of_the_largest_values_stay_finite() -> None:
    rehearsal = Rehearsal(declare())
    largest = float(np.finfo(np.float32).max) / 2**32
    result = await rehearsal.score([pay(n, amount=largest) for n in range(100)])
    assert result.dead_letters == []
    assert np.isfinite(unpack([s.vector for s in result.scored])).all()


@pytest.mark.parametrize(
    "factor", [1, 1e3, 1e6, 1e9], ids=["seconds", "milliseconds", "microseconds", "nanoseconds"]
)
async def test_times_are_understood_in_the_unit_that_they_have(factor: float) -> None:
    result = await Rehearsal(declare()).score([pay(1, at=int(T0 * factor))])
    assert [p.event_time for p in result.predictions] == [pytest.approx(T0, abs=1e-3)]


@pytest.mark.parametrize("at", [-1, 0, 86_400, 5e9, 9e11, 5e12, 9e14, 5e15, 9e17, 5e18, 1e30])
async def test_a_time_that_fits_no_unit_is_a_dead_letter_that_says_the_range(at: float) -> None:
    [letter] = (await Rehearsal(declare()).score([pay(1, at=at)])).dead_letters
    assert letter["cause"] == "time"
    assert "2000-01-01T00:00:00+00:00 to 2106-02-07" in letter["detail"]


class Dated(Named):
    at: datetime  # type: ignore[assignment]


@pytest.mark.parametrize("at", [T0, T0 * 10**3, T0 * 10**6, T0 * 10**9, "2023-11-14T22:13:20Z"])
async def test_a_datetime_may_be_a_number_of_any_unit(at: Any) -> None:
    result = await Rehearsal(declare(Dated)).score([pay(1, at=at)])
    assert [p.event_time for p in result.predictions] == [T0]


async def test_of_two_faults_the_other_is_told_where_the_time_is_a_number() -> None:
    events = [pay(1, at=T0 * 10**6, points="many")]
    [letter] = (await Rehearsal(declare(Dated)).score(events)).dead_letters
    assert letter["cause"] == "invalid"
    assert letter["detail"].startswith("points")


@pytest.mark.parametrize("at", [5e15, 5e18, -5e15, True, [], "soon", 10**400])
async def test_a_datetime_that_is_none_is_a_dead_letter(at: Any) -> None:
    [letter] = (await Rehearsal(declare(Dated)).score([pay(1, at=at)])).dead_letters
    assert letter["cause"] in ("time", "invalid")
    if isinstance(at, float):
        assert "1970-01-01T00:00:00+00:00 and 2106-02-07" in letter["detail"]


async def test_an_event_is_judged_by_its_record_and_not_by_the_clock() -> None:
    day = 86_400
    ahead = [pay(1, at=T0 + day - 1), pay(2, at=T0 + day + 1)]
    result = await Rehearsal(declare()).score(ahead, written_at=T0)
    assert [p.event_id for p in result.predictions] == ["p1"]
    [letter] = result.dead_letters
    assert letter["cause"] == "time"
    assert letter["detail"].endswith("2023-11-15T22:13:20+00:00, 1d after the record was written")
    long_ahead = datetime(2090, 1, 1, tzinfo=UTC).timestamp()
    later = await Rehearsal(declare()).score([pay(1, at=long_ahead)], written_at=long_ahead)
    assert len(later.predictions) == 1


async def test_a_name_without_end_is_a_dead_letter() -> None:
    result = await Rehearsal(declare()).score([pay(1), pay(2, id="x" * 1_000_000)])
    assert [letter["cause"] for letter in result.dead_letters] == ["too-long"]
    assert [p.event_id for p in result.predictions] == ["p1"]


async def test_a_transform_need_not_take_a_batch_of_nothing() -> None:
    def picky(columns: Columns) -> NDArray[np.float64]:
        assert len(columns["points"]), "nothing to do"
        return np.asarray(columns["points"] / columns["points"].max(), np.float64)

    pipeline = declare(features=[Transform("picky", picky)])
    rehearsal = Rehearsal(pipeline)
    result = await rehearsal.score([b"{", b""])
    assert [letter["cause"] for letter in result.dead_letters] == ["malformed", "empty"]


async def test_a_transform_cannot_change_what_others_read() -> None:
    def in_place(columns: Columns) -> NDArray[Any]:
        values: NDArray[Any] = columns["amount"]
        values /= 100.0
        return values

    pipeline = declare(features=[Column("amount"), Transform("euros", in_place)])
    [letter] = (await Rehearsal(pipeline).score([pay(1)])).dead_letters
    assert letter["cause"] == "feature"
    assert "read-only" in letter["detail"]


class Validated(Named):
    @field_validator("points")
    @classmethod
    def known(cls, points: int) -> int:
        return {0: 0, 5: 5}[points]  # a KeyError, which no library expects


@pytest.mark.parametrize("neighbours", [0, 1, 50])
async def test_an_error_that_nobody_foresaw_costs_the_record_that_brings_it_about(
    neighbours: int,
) -> None:
    events = [pay(n) for n in range(neighbours)]
    events.insert(neighbours // 2, pay(1000, points=3))
    result = await Rehearsal(declare(Validated)).score(events)
    assert len(result.predictions) == neighbours
    [letter] = result.dead_letters
    assert (letter["cause"], letter["detail"]) == ("failed", "KeyError: 3")
    assert letter["offset"] == str(neighbours // 2)


class Colour(enum.Enum):
    red = "red"


class Everything(Named):
    colour: Colour = Colour.red
    day: date = date(2024, 1, 1)
    price: Decimal = Decimal("1.5")
    session: UUID = UUID(int=1)
    tags: list[int] = []
    inner: dict[str, list[int]] = {}
    either: int | str = 0


async def test_fields_of_any_kind_cost_nothing_where_no_feature_reads_them() -> None:
    events = [pay(n, tags=[1, 2], inner={"a": [n]}, either=[n, "x"][n % 2]) for n in range(4)]
    result = await Rehearsal(declare(Everything)).score(events)
    assert len(result.predictions) == 4


@pytest.mark.parametrize("key", ["colour", "day", "price", "session", "either"])
async def test_entities_may_be_named_by_fields_of_any_kind(key: str) -> None:
    pipeline = declare(Everything, features=[Count(key=key, over="1d"), Bucket(key, 100)])
    result = await Rehearsal(pipeline).score([pay(1), pay(2)])
    assert unpack([s.vector for s in result.scored])[:, 0].tolist() == [1.0, 2.0]


class Poisoned(MemoryFeatureState):
    """Fails on one event, before or after it has counted it; or on everything."""

    def __init__(self, pipeline: Pipeline, *, after: bool = False) -> None:
        super().__init__(pipeline.plan)
        self.after = after
        self.broken = False

    async def fold(self, batch: FoldBatch) -> Folded:
        folded = await super().fold(batch) if self.after else None
        if self.broken or (batch.values == 13).any():
            raise OverflowError("unlucky")
        return folded or await super().fold(batch)


def lane(state: MemoryFeatureState, pipeline: Pipeline) -> PartitionScoring:
    scorer = MemoryScorer({1: lambda vectors: vectors[:, :1] * 0})
    return Scoring(pipeline, state, scorer, FixedChampion(1), nothing).partition(0)


def batch_of(pipeline: Pipeline, *events: dict[str, Any], first: int = 0) -> MicroBatch:
    values = [orjson.dumps(event) for event in events]
    records: list[SourceRecord] = records_of(0, *values)
    return MicroBatch(pipeline.topics.events, 0, records, first, 0)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("size", [1, 2, 7])
async def test_an_error_of_any_stage_is_pinned_on_its_record(size: int, after: bool) -> None:
    pipeline = declare()
    state = Poisoned(pipeline, after=after)
    scoring = lane(state, pipeline)
    events = [pay(n) for n in range(size)]
    events[size // 2]["amount"] = 13.0
    outputs = await scoring.process(batch_of(pipeline, *events))
    assert len(outputs[pipeline.topics.predictions]) == size - 1
    [(_, value, headers)] = outputs[pipeline.topics.dead_letters]
    assert value == orjson.dumps(events[size // 2])
    assert dict(headers)["cause"] == b"failed"
    assert dict(headers)["detail"] == b"OverflowError: unlucky"
    assert await state.position(0) == size


async def test_a_refold_passes_over_what_the_first_time_did() -> None:
    pipeline = declare(Validated)
    values = [orjson.dumps(pay(n, points=3 if n == 2 else 5)) for n in range(5)]
    records: list[SourceRecord] = records_of(0, *values)

    async def read(topic: str, partition: int, first: int, end: int) -> Any:
        yield records[first:end]

    state = MemoryFeatureState(pipeline.plan)
    scorer = MemoryScorer({1: lambda vectors: vectors[:, :1] * 0})
    scoring = Scoring(pipeline, state, scorer, FixedChampion(1), read).partition(0)
    assert await scoring.open({pipeline.topics.events: 5}) == {}
    assert await state.position(0) == 5
    later = batch_of(pipeline, pay(9, points=5), first=5)
    outputs = await scoring.process(replace(later, records=records_of(0, *values, values[4])[5:]))
    assert outputs[pipeline.topics.dead_letters] == []


@pytest.mark.parametrize(("predicted", "resumed"), [(0, {}), (3, {"payments.events": 3})])
async def test_scoring_goes_on_after_its_predictions_where_nothing_is_committed(
    predicted: int, resumed: dict[str, int]
) -> None:
    class Past:
        prefix = "abcdef-"

        async def end(self, partition: int) -> int:
            return predicted

    pipeline = declare()
    scorer = MemoryScorer({1: lambda vectors: vectors[:, :1] * 0})
    state = MemoryFeatureState(pipeline.plan)
    scoring = Scoring(pipeline, state, scorer, FixedChampion(1), nothing, Past()).partition(0)
    assert await scoring.open({pipeline.topics.events: None}) == resumed
    assert await scoring.open({pipeline.topics.events: 7}) == {}


async def test_an_error_that_no_record_brings_about_ends_the_worker() -> None:
    pipeline = declare()
    state = Poisoned(pipeline)
    state.broken = True
    with pytest.raises(OverflowError, match="unlucky"):
        await lane(state, pipeline).process(batch_of(pipeline, pay(1), pay(2)))


async def test_poison_without_end_stops_the_worker_before_it_is_written() -> None:
    pipeline = declare(policies=Policies(invalid=Invalid(ratio=0.5, over=10)))
    scoring = lane(Poisoned(pipeline), pipeline)
    with pytest.raises(TooManyInvalid, match="failed: OverflowError"):
        await scoring.process(batch_of(pipeline, *(pay(n, amount=13.0) for n in range(20))))


async def test_an_event_on_which_the_model_errs_is_a_dead_letter() -> None:
    def network(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        with np.errstate(invalid="ignore"):
            return np.where(vectors[:, :1] > 1e19, np.nan, 0.5).astype(np.float32)

    events = [pay(n) for n in range(41)]
    events[20]["points"] = 10**20
    for given in (events, events[20:21]):
        result = await Rehearsal(declare(), network).score(given)
        assert len(result.predictions) == len(given) - 1
        assert [letter["cause"] for letter in result.dead_letters] == ["model"]


@pytest.mark.parametrize("filler", ["unknown", float("nan"), None])
def test_a_replacement_of_another_kind_is_refused_when_the_pipeline_is_built(filler: Any) -> None:
    with pytest.raises(PipelineError, match="is no number"):
        declare(cleaning=Cleaning(missing={"points": filler}))


def test_a_bad_record_says_what_is_wrong() -> None:
    assert str(BadRecord("failed", "KeyError: 3")) == "failed: KeyError: 3"
