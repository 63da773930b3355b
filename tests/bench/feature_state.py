"""Speed and size of the feature state of card fraud, on an embedded Valkey.

    python -m tests.bench.feature_state --entities 10000 1000000 10000000 --batch 1024

Customers make up a third of the entities, terminals the rest. History is folded first, until a
customer has 57 transactions in 30 days on average, for 100,000 entities at most: where there are
more, the server copies what those have. Then the calls alone are timed. An entity's bytes are all
that the server allocated since it was empty, journal and key space included, over the number of
entities.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.adapters.redis.state import RedisFeatureState
from streams.pipelines.card_fraud import pipeline
from streams.ports.features import FoldBatch, LabelBatch
from tests.bench.open_loop import DAY, PER_CUSTOMER
from tests.valkey import Valkey

START = 1_500_000_000
FOLDED = 100_000
"""Entities at most whose history is folded event by event."""
COPY = """
local count, times = tonumber(ARGV[1]), tonumber(ARGV[2])
for _, key in ipairs(KEYS) do
  local prefix, number = string.match(key, '^(.*:)(%d+)$')
  for n = 1, times - 1 do
    server.call('COPY', key, prefix .. string.format('%d', number + n * count))
  end
end
"""


class Load:
    """Transactions of card fraud, evenly over customers, terminals and time."""

    def __init__(self, entities: int, seed: int = 1) -> None:
        self._rng = np.random.default_rng(seed)
        self.customers, self.terminals = entities // 3, entities - entities // 3
        self._offset, self._time = 0, float(START)

    def batch(self, size: int) -> FoldBatch:
        """The next `size` transactions."""
        rng, first = self._rng, self._offset
        self._offset += size
        steps = rng.exponential(DAY / (self.customers * PER_CUSTOMER), size)
        times = self._time + np.cumsum(steps)
        self._time = float(times[-1])
        names = (
            [b"%d" % name for name in rng.integers(0, count, size).tolist()]
            for count in (self.customers, self.terminals)
        )
        return FoldBatch(
            partition=0,
            first=first,
            next=self._offset,
            offsets=np.arange(first, self._offset),
            ids=rng.integers(0, 1 << 63, size).astype(np.uint64),
            times=times.astype(np.uint32),
            entities=list(names),
            values=np.round(rng.gamma(2.0, 27.0, (size, 1)), 2),
            committed=first,
        )

    def multiply(self, times: int) -> None:
        """So many times as many entities from now on."""
        self.customers, self.terminals = self.customers * times, self.terminals * times

    @property
    def days(self) -> float:
        """Event time that has passed, in days."""
        return (self._time - START) / DAY


def frauds(batch: FoldBatch, share: NDArray[np.bool_]) -> LabelBatch:
    """Positive labels of some transactions of a batch."""
    rows = np.flatnonzero(share)
    return LabelBatch(
        partition=0,
        next=batch.next,
        offsets=batch.offsets[rows],
        times=batch.times[rows],
        entities=[[batch.entities[1][row] for row in rows.tolist()]],
        deltas=np.ones(len(rows)),
    )


async def measure(
    server: Valkey, entities: int, sizes: list[int], days: float, events: int
) -> None:
    with server.client() as client:
        client.flushall()
        empty = int(client.info("memory")["used_memory"])
        state = await RedisFeatureState.connect(server.url, pipeline.name, pipeline.plan, 60.0)
        times = -(-entities // FOLDED)
        load, rng = Load(entities // times), np.random.default_rng(2)
        while load.days < days:
            batch = load.batch(4096)
            await state.fold(batch)
            await state.fold_labels(frauds(batch, rng.random(4096) < 0.009))
        for number, count in enumerate((load.customers, load.terminals)):
            _copy(client, f"*}}??????{number}:*", count, times)
        load.multiply(times)
        keys, used = client.dbsize(), int(client.info("memory")["used_memory"]) - empty
        print(f"{entities:>9,} entities: {used / keys:.0f} bytes each ({keys:,} keys)", flush=True)
        for size in sizes:
            spent = []
            cpu = _cpu(client)
            for _ in range(max(20, events // size)):
                batch = load.batch(size)
                begin = time.perf_counter()
                await state.fold(batch)
                spent.append(time.perf_counter() - begin)
            server_us = (_cpu(client) - cpu) / len(spent) / size * 1e6
            calls = np.array(spent)
            print(
                f"{'':>9} batch {size:>5}: {size / calls.mean():>8,.0f} events/s, "
                f"p50 {np.median(calls) * 1e3:.2f} ms, "
                f"p99 {np.quantile(calls, 0.99) * 1e3:.2f} ms, "
                f"server {server_us:.1f} µs/event",
                flush=True,
            )
        await state.close()


def _copy(client: Any, pattern: str, count: int, times: int) -> None:
    """Have `times` as many of these entities, numbered on from `count`."""
    found = list(client.scan_iter(match=pattern, count=1000)) if times > 1 else []
    for start in range(0, len(found), 100):
        some = found[start : start + 100]
        client.eval(COPY, len(some), *some, count, times)


def _cpu(client: object) -> float:
    info = client.info("cpu")  # type: ignore[attr-defined]
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--entities", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--batch", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--days", type=float, default=40.0, help="history before the timing")
    parser.add_argument("--events", type=int, default=100_000, help="timed, per batch size")
    parser.add_argument("--appendonly", action="store_true", help="with the append-only file")
    options = parser.parse_args()
    extra = ["--appendonly", "yes"] if options.appendonly else []
    with tempfile.TemporaryDirectory() as directory, Valkey(Path(directory), *extra) as server:
        for entities in options.entities:
            asyncio.run(measure(server, entities, options.batch, options.days, options.events))


if __name__ == "__main__":
    main()
