"""Features of card fraud as they stream by equal those computed over the finished table."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from streams.adapters.memory.state import MemoryFeatureState
from streams.adapters.redis.state import RedisFeatureState
from streams.pipelines.card_fraud import pipeline
from streams.ports.features import FeatureState, FoldBatch, LabelBatch
from tests.reference.handbook_features import DAY, DELAY, NAMES, fast_features
from tests.valkey import Valkey
from workers.worlds.card_fraud import World, simulate

BATCH = 512
WARM = 45 * DAY
WORLD = World(customers=400, terminals=800, days=80, radius=10.0)


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return simulate(WORLD)


class Streamed:
    """A table as micro-batches of one partition, each label 7 days after its transaction."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.size = len(frame)
        self._times = frame["tx_time"].to_numpy().astype("datetime64[s]").astype(np.uint32)
        self._amounts = frame["amount"].to_numpy(np.float64)
        self._frauds = frame["is_fraud"].to_numpy(np.float64)
        self._names = [
            [str(name).encode() for name in frame[column].tolist()]
            for column in ("customer_id", "terminal_id")
        ]
        self._labelled = 0

    def labels_before(self, end: int) -> LabelBatch:
        """Labels that arrive until the transaction before `end` is made, and none twice."""
        first = self._labelled
        self._labelled = int(
            np.searchsorted(self._times, self._times[end - 1] - np.uint32(DELAY), side="right")
        )
        rows = slice(first, self._labelled)
        return LabelBatch(
            partition=0,
            next=self._labelled,
            offsets=np.arange(first, self._labelled),
            times=self._times[rows],
            entities=[self._names[1][rows]],
            deltas=self._frauds[rows],
        )

    def events(self, first: int, end: int) -> FoldBatch:
        rows = slice(first, end)
        return FoldBatch(
            partition=0,
            first=first,
            next=end,
            offsets=np.arange(first, end),
            ids=np.arange(first, end, dtype=np.uint64),
            times=self._times[rows],
            entities=[names[rows] for names in self._names],
            values=self._amounts[rows, None],
            committed=first,
        )

    def columns(self, first: int, end: int) -> dict[str, NDArray[np.float64]]:
        rows = slice(first, end)
        return {"amount": self._amounts[rows], "tx_time": self._times[rows].astype(np.float64)}


async def vectors(state: FeatureState, frame: pd.DataFrame) -> NDArray[np.float32]:
    """What the model would see, [rows, 15]."""
    streamed, parts = Streamed(frame), []
    for first in range(0, streamed.size, BATCH):
        end = min(first + BATCH, streamed.size)
        counted = await state.fold_labels(streamed.labels_before(end))
        assert (counted.late, counted.expired) == (0, 0)
        folded = await state.fold(streamed.events(first, end))
        assert not folded.duplicate.any()
        parts.append(
            pipeline.vectors.of(
                pipeline.vectors.stateless(streamed.columns(first, end)), folded.aggregates
            )
        )
    return np.concatenate(parts)


@pytest.mark.parametrize("kind", ["memory", "redis"])
async def test_streamed_features_equal_the_tables(
    kind: str, valkey: Valkey, frame: pd.DataFrame
) -> None:
    state: FeatureState
    if kind == "memory":
        state = MemoryFeatureState(pipeline.plan)
    else:
        state = await RedisFeatureState.connect(valkey.url, pipeline.name, pipeline.plan)
    streamed = await vectors(state, frame)
    await state.close()
    warm = int(np.searchsorted(frame["seconds"], WARM))
    expected = fast_features(frame)
    assert len(frame) - warm >= 20_000
    assert (expected[warm:, -1] > 0).mean() > 0.1, "frauds enough to see their rates"
    for column, name in enumerate(NAMES):
        np.testing.assert_allclose(
            streamed[warm:, column], expected[warm:, column], rtol=1e-6, atol=0, err_msg=name
        )
    # and from the very first transaction, while windows still fill
    np.testing.assert_allclose(streamed[:warm], expected[:warm], rtol=1e-6)
