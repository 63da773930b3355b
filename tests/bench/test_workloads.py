"""A rival makes of an event what our scoring path makes of it: the benchmark compares equals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from streams.records import encode
from streams.spec.layout import unpack
from streams.testing import Rehearsal, Rehearsed
from tests.bench.loading import Record, messages, pictures, readings
from tests.bench.peers import windows
from tests.bench.workloads import (
    BATCH,
    WORKLOADS,
    Workload,
    payment_vectors,
    reading_vectors,
)
from tests.valkey import Valkey
from workers.worlds.card_fraud import World, event_records, simulate


def network(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors[:, :1] / np.float32(128)


async def ours(workload: Workload, values: list[bytes]) -> Rehearsed:
    return await Rehearsal(workload.pipeline, network).score(values)


def test_a_reading_is_about_110_bytes() -> None:
    assert {len(value) for _, value in readings(2000)} <= set(range(105, 116))


async def test_a_rival_writes_of_readings_what_we_write() -> None:
    workload = WORKLOADS["stateless"]
    values = [value for _, value in readings(500)]
    batch = workload.decode(values)
    vectors = reading_vectors(batch.columns)
    origins = [f"0-{offset}" for offset in range(len(values))]
    theirs = workload.outputs(batch, vectors, network(vectors), origins)
    result = await ours(workload, values)
    assert [prediction for prediction, _ in theirs] == list(map(encode, result.predictions))
    assert [scored for _, scored in theirs] == list(map(encode, result.scored))


@pytest.mark.parametrize(("name", "made"), [("pictures", pictures), ("messages", messages)])
async def test_a_rival_writes_of_inputs_what_we_write(
    name: str, made: Callable[[int], Iterator[Record]]
) -> None:
    workload = WORKLOADS[name]
    values = [value for _, value in made(50)]
    batch = workload.decode(values)
    rows, scores = workload.rows(batch), np.full((50, 1), 0.25, np.float32)
    theirs = workload.outputs(batch, rows, scores, [f"0-{offset}" for offset in range(50)])
    result = await Rehearsal(workload.pipeline, lambda rows: scores).score(values)
    assert [scored for _, scored in theirs] == list(map(encode, result.scored))
    assert len({one.vector for one in result.scored}) == 50


async def test_a_rivals_windows_are_ours(tmp_path: Path) -> None:
    workload = WORKLOADS["card-fraud"]
    world = World(customers=40, terminals=60, days=45, radius=40.0)
    values = [value for _, value in event_records(simulate(world))]
    assert len(values) > 2 * BATCH
    vectors: list[NDArray[np.float32]] = []
    with Valkey(tmp_path) as server, server.client() as client:
        for start in range(0, len(values), BATCH):
            batch = workload.decode(values[start : start + BATCH])
            pipe = client.pipeline(transaction=False)
            for command in windows.commands(batch):
                pipe.execute_command(*command)
            found = windows.aggregates(batch, pipe.execute())
            vectors.append(payment_vectors(batch.columns, found))
    result = await ours(workload, values)
    expected = unpack([scored.vector for scored in result.scored])
    assert expected[-1, 3:].astype(bool).tolist() == [True, True] * 3 + [True, False] * 3
    np.testing.assert_allclose(np.concatenate(vectors), expected, rtol=1e-5)
