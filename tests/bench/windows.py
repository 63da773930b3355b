"""What each kind of window costs per event, beside a count, on an embedded Valkey.

    python -m tests.bench.windows --events 10 100 1000

Each kind is declared beside a `Count` over the same window of the same entities, whose windows are
full: they hold as many events as the row says. Events come in time order, one a second, evenly over
the entities: with 40 of them and 256 events to a call, an entity has six in a call. `server` is the
CPU time of the server alone, `call` the time from a fold's begin to its answer, both per event;
`beside` is what the kind adds to the server's time for the count alone, measured in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from streams.adapters.redis.state import RedisFeatureState
from streams.ports.features import FoldBatch
from streams.spec import (
    Count,
    CountDistinct,
    Event,
    First,
    LabelRate,
    Lag,
    Last,
    Max,
    Mean,
    Min,
    Std,
    Sum,
    TimeSince,
)
from streams.spec.aggregates import Window
from streams.spec.windows import compile_plan
from tests.valkey import Valkey

START = 1_500_000_000


class Payment(BaseModel):
    payment_id: str
    card: str
    shop: str
    amount: float
    at: float


EVENT = Event(Payment, id="payment_id", key="card", time="at")

Declare = Callable[[str], list[Window]]
KINDS: dict[str, Declare] = {
    "Count alone": lambda over: [],
    "Sum": lambda over: [Sum(key="card", over=over, field="amount")],
    "Mean": lambda over: [Mean(key="card", over=over, field="amount")],
    "LabelRate": lambda over: [LabelRate(key="card", over=over)],
    "LabelRate of 3 classes": lambda over: [
        LabelRate(key="card", over=over, class_=number) for number in range(3)
    ],
    "TimeSince": lambda over: [TimeSince(key="card", over=over)],
    "Lag": lambda over: [Lag(key="card", over=over, field="amount")],
    "Last": lambda over: [Last(key="card", over=over, field="amount")],
    "First": lambda over: [First(key="card", over=over, field="amount")],
    "Min": lambda over: [Min(key="card", over=over, field="amount")],
    "Max": lambda over: [Max(key="card", over=over, field="amount")],
    "Min, Max and Std": lambda over: [
        kind(key="card", over=over, field="amount") for kind in (Min, Max, Std)
    ],
    "Std": lambda over: [Std(key="card", over=over, field="amount")],
    "CountDistinct": lambda over: [CountDistinct(key="card", over=over, field="shop")],
}


class Load:
    """Payments, one a second, evenly over the cards."""

    def __init__(self, cards: int, fields: tuple[str, ...], size: int) -> None:
        self._rng = np.random.default_rng(1)
        self._cards, self._fields, self._size = cards, fields, size
        self._offset = 0

    def batch(self) -> FoldBatch:
        """The next payments."""
        first, rng, size = self._offset, self._rng, self._size
        self._offset += size
        rows = np.arange(first, self._offset)
        drawn = {
            "amount": np.round(rng.gamma(2.0, 27.0, size), 2),
            "shop": np.floor(rng.integers(0, 50, size) * 1e14),  # as large as hashes are
        }
        return FoldBatch(
            partition=0,
            first=first,
            next=self._offset,
            offsets=rows,
            ids=rows.astype(np.uint64),
            times=(START + rows).astype(np.uint32),
            entities=[[b"%d" % card for card in (rows % self._cards).tolist()]],
            values=np.stack([drawn[name] for name in self._fields], 1)
            if self._fields
            else np.empty((size, 0)),
            committed=first,
        )


async def measure(
    server: Valkey, declare: Declare, kept: int, options: argparse.Namespace
) -> tuple[float, float]:
    """Microseconds of the server and of a call, per event."""
    cards, size = options.entities, options.batch
    over = f"{kept * cards}s"
    plan = compile_plan(EVENT, [Count(key="card", over=over), *declare(over)], 0)
    with server.client() as client:
        client.flushall()
        state = await RedisFeatureState.connect(server.url, "bench", plan, 60.0)
        load = Load(cards, plan.values, size)
        for _ in range(-(-kept * cards // size) + 1):
            await state.fold(load.batch())
        spent, cpu, calls = 0.0, _cpu(client), -(-options.timed // size)
        for _ in range(calls):
            batch = load.batch()
            begin = time.perf_counter()
            folded = await state.fold(batch)
            spent += time.perf_counter() - begin
        server_seconds = _cpu(client) - cpu
        await state.close()
    assert (folded.aggregates[:, 0] == kept).all(), "windows are full, and no more"
    return server_seconds / calls / size * 1e6, spent / calls / size * 1e6


def _cpu(client: Any) -> float:
    info = client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


async def run(server: Valkey, options: argparse.Namespace) -> None:
    """Print a table: a row for each kind, three columns for each size of window."""
    sizes = options.events
    print("| Beside a Count |" + "".join(f" {n:,} events: server | beside | call |" for n in sizes))
    print("|---|" + "---|---|---|" * len(sizes))
    alone = dict.fromkeys(sizes, 0.0)
    for name in options.kinds or KINDS:
        declare = KINDS[name]
        row = [name]
        for kept in sizes:
            rounds = [await measure(server, declare, kept, options) for _ in range(options.rounds)]
            spent, call = (min(column) for column in zip(*rounds, strict=True))
            alone[kept] = alone[kept] or spent
            row += [f"{spent:.1f} µs", f"{spent - alone[kept]:+.1f} µs", f"{call:.1f} µs"]
        print(f"| {' | '.join(row)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--entities", type=int, default=40)
    parser.add_argument("--batch", type=int, default=256, help="events to a call")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help="only these; the first is alone")
    parser.add_argument("--timed", type=int, default=10_000, help="events, per kind and size")
    parser.add_argument("--rounds", type=int, default=3, help="of which the quickest counts")
    with tempfile.TemporaryDirectory() as directory, Valkey(Path(directory)) as server:
        asyncio.run(run(server, parser.parse_args()))


if __name__ == "__main__":
    main()
