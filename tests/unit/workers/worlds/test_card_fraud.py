from __future__ import annotations

import random
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import pytest

from streams.pipelines.card_fraud import Transaction
from tests.reference.handbook_world import slow_world
from workers.worlds.card_fraud import (
    World,
    event_records,
    events,
    feedback,
    feedback_records,
    load,
    simulate,
)
from workers.worlds.card_fraud.draws import Draws, Ints, choices
from workers.worlds.card_fraud.world import SEED_STEP

SMALL = World(customers=60, terminals=80, days=40, radius=12.0)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return simulate(SMALL)


def assert_same(frame: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(frame, other, check_dtype=False, check_like=True)


@pytest.mark.parametrize(
    ("world", "first_seed"),
    [
        (SMALL, 0),
        (World(customers=300, terminals=80, days=25, radius=12.0), 0),  # has large amounts
        (World(customers=300, terminals=25, days=5), 0),  # many have no terminal near
        (World(customers=3, terminals=2, days=20, radius=150.0), 0),
        (World(customers=40, terminals=50, days=30, radius=20.0, seed=7), 7 * SEED_STEP),
    ],
)
def test_every_row_is_as_drawn_one_call_at_a_time(world: World, first_seed: int) -> None:
    drawn = slow_world(world.customers, world.terminals, world.days, world.radius, first_seed)
    assert_same(simulate(world), drawn)


def test_all_scenarios_occur() -> None:
    found = simulate(World(customers=300, terminals=80, days=25, radius=12.0))
    assert set(found["scenario"]) == {0, 1, 2, 3}


def test_the_columns_have_the_promised_types(frame: pd.DataFrame) -> None:
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        "transaction_id": "int64",
        "tx_time": "datetime64[s]",
        "customer_id": "int64",
        "terminal_id": "int64",
        "amount": "float64",
        "day": "int64",
        "seconds": "int64",
        "is_fraud": "int8",
        "scenario": "int8",
    }
    assert (frame["amount"] == frame["amount"].round(2)).all()


def test_a_shorter_world_has_the_same_beginning(frame: pd.DataFrame) -> None:
    days = 25
    short = simulate(World(customers=60, terminals=80, days=days, radius=12.0))
    before = days - 13
    columns = ["seconds", "customer_id", "terminal_id", "amount", "scenario"]

    def rows(table: pd.DataFrame, names: list[str], until: int) -> list[list[object]]:
        found: list[list[object]] = table.loc[table["day"] < until, names].to_numpy().tolist()
        return sorted(found)

    assert rows(short, columns[:3], days) == rows(frame, columns[:3], days)
    assert rows(short, columns, before) == rows(frame, columns, before)


def test_another_seed_is_another_world_each_time_the_same() -> None:
    other = World(customers=60, terminals=80, days=40, radius=12.0, seed=1)
    assert_same(simulate(other), simulate(other))
    assert len(simulate(other)) != len(simulate(SMALL))


def test_the_global_random_streams_are_left_alone() -> None:
    random.seed(5)
    np.random.seed(5)
    before = random.getstate()
    simulate(SMALL)
    assert random.getstate() == before
    assert np.random.random_sample() == np.random.RandomState(5).random_sample()


def test_nobody_near_a_terminal_means_an_empty_table() -> None:
    empty = simulate(World(customers=3, terminals=2, days=3, radius=0.0))
    assert len(empty) == 0
    assert list(events(empty)) == []
    assert feedback_records(empty) == []


def test_progress_rises_to_one(frame: pd.DataFrame, tmp_path: Path) -> None:
    told: list[float] = []
    simulate(SMALL, told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert len(told) > SMALL.days


@pytest.mark.parametrize("wrong", [{"customers": 2}, {"terminals": 1}, {"days": 0}, {"seed": -1}])
def test_an_impossible_world_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"a world needs|there is no world"):
        World(**wrong)  # type: ignore[arg-type]


def test_a_stream_that_is_too_short_says_so() -> None:
    draws = Draws([3, 4], np.array([4, 4]))
    assert not draws.overran()
    for _ in range(5):
        draws.uniform(np.array([0]))
    assert draws.overran()


def test_a_stream_that_is_too_short_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from workers.worlds.card_fraud import handbook

    expected = simulate(SMALL)
    enough = handbook._needed
    given: list[float] = []

    def scarce(world: World, people: handbook._People, spare: float) -> Ints:
        given.append(spare)
        return enough(world, people, spare) // (4 if len(given) == 1 else 1)

    monkeypatch.setattr(handbook, "_needed", scarce)
    assert_same(simulate(SMALL), expected)
    assert given == [6.0, 12.0]


@pytest.mark.parametrize("options", [1, 2, 3, 4, 7, 8, 9, 100, 128, 1000])
def test_choices_are_those_of_the_standard_library(options: int) -> None:
    random.seed(options)
    expected = [random.choice(range(options)) for _ in range(500)]
    assert choices(options, options, 500).tolist() == expected
    assert choices(options, options, 0).tolist() == []


def test_a_loaded_world_equals_a_simulated_one(frame: pd.DataFrame, tmp_path: Path) -> None:
    told: list[float] = []
    assert_same(load(SMALL, tmp_path / "new"), frame)
    again = load(SMALL, tmp_path / "new", told.append)
    pd.testing.assert_frame_equal(again, frame)
    assert told == [1.0]  # nothing was simulated
    load(World(customers=60, terminals=80, days=40, radius=11.0), tmp_path / "new")
    assert len(list((tmp_path / "new").iterdir())) == 2
    assert_same(load(SMALL), frame)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", b"no archive", None])
def test_a_damaged_file_is_replaced(
    frame: pd.DataFrame, tmp_path: Path, damage: bytes | None
) -> None:
    load(SMALL, tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(
        whole[:middle] + bytes(99) + whole[middle + 99 :] if damage is None else damage
    )
    assert_same(load(SMALL, tmp_path), frame)
    assert path.read_bytes() == whole


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="disk full"):
        load(SMALL, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_events_have_the_pipelines_schema(frame: pd.DataFrame) -> None:
    found = list(events(frame))
    assert len(found) == len(frame)
    for event, row in zip(found[:200], frame.itertuples(), strict=False):
        parsed = Transaction.model_validate_json(orjson.dumps(event))
        assert parsed.transaction_id == str(row.transaction_id)
        assert parsed.customer_id == str(row.customer_id)
        assert parsed.terminal_id == str(row.terminal_id)
        assert parsed.amount == row.amount
        assert parsed.tx_time.replace(tzinfo=None) == row.tx_time


def test_an_event_record_reads_as_documented() -> None:
    frame = pd.DataFrame(
        {
            "transaction_id": [0],
            "tx_time": np.array(["2018-04-01T00:00:31"], "datetime64[s]"),
            "customer_id": [596],
            "terminal_id": [3156],
            "amount": [57.16],
            "is_fraud": [1],
        }
    )
    key, value = event_records(frame)[0]
    assert key == b"596"
    assert value == (
        b'{"transaction_id":"0","customer_id":"596","terminal_id":"3156",'
        b'"amount":57.16,"tx_time":"2018-04-01T00:00:31Z"}'
    )
    assert feedback_records(frame, timedelta(hours=1)) == [
        (b"596", b'{"event_id":"0","label":1,"labelled_at":"2018-04-01T01:00:31Z"}')
    ]


def test_feedback_comes_a_week_later_with_the_events_key(frame: pd.DataFrame) -> None:
    records = feedback_records(frame)
    assert [key for key, _ in records] == [key for key, _ in event_records(frame)]
    labels = [orjson.loads(value) for _, value in records]
    assert labels == list(feedback(frame))
    assert [label["event_id"] for label in labels] == list(map(str, range(len(frame))))
    assert [label["label"] for label in labels] == frame["is_fraud"].tolist()
    assert labels[0]["labelled_at"][:10] == str(date(2018, 4, 8))


def test_feedback_of_frauds_only(frame: pd.DataFrame) -> None:
    frauds = frame[frame["is_fraud"] == 1]
    found = list(feedback(frame, positives_only=True))
    assert [int(label["event_id"]) for label in found] == frauds["transaction_id"].tolist()
    assert {label["label"] for label in found} == {1}
    keys = [key.decode() for key, _ in feedback_records(frame, positives_only=True)]
    assert keys == frauds["customer_id"].astype(str).tolist()
