"""What an event costs the feature state where its partition is behind others of the same entities.

    python -m tests.bench.behind --events 15000 60000

Twenty customers, in four partitions, share five shops. Their events are folded as they happened,
and then, into another state, one partition after another, as when a state that was lost is folded
again: three quarters come after later ones of their shop.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from streams.adapters.redis.state import RedisFeatureState
from streams.spec.windows import FoldPlan, KeyPlan
from tests.folds import E, fold_batch
from tests.valkey import Valkey

DAY = 86_400
PARTITIONS, BATCH = 4, 500
AGES = (0, DAY, 7 * DAY, 30 * DAY)
PLAN = FoldPlan(
    tuple(KeyPlan(key, AGES, ("amount",), False, ((0, 1), (0, 3))) for key in ("customer", "shop"))
)


def purchases(count: int, seed: int = 1) -> list[E]:
    """Purchases of thirty days, as they happened."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, 30 * DAY, count)) + 1_700_000_000
    customers, shops = rng.integers(0, 20, count), rng.integers(0, 5, count)
    amounts = rng.gamma(2, 20, count).round(2)
    columns = zip(times.tolist(), customers, shops, amounts.tolist(), strict=True)
    return [
        E(at, (f"c{customer}", f"s{shop}"), number + 1, (amount,))
        for number, (at, customer, shop, amount) in enumerate(columns)
    ]


async def fold(url: str, name: str, partitions: Sequence[Sequence[E]]) -> list[float]:
    """Fold partitions, one after another, into a new state; returns each call's seconds."""
    state = await RedisFeatureState.connect(url, name, PLAN)
    seconds = []
    for number, events in enumerate(partitions):
        for first in range(0, len(events), BATCH):
            batch = fold_batch(events[first : first + BATCH], first, partition=number)
            began = time.perf_counter()
            await state.fold(batch)
            seconds.append(time.perf_counter() - began)
    await state.close()
    return seconds


async def compare(url: str, count: int) -> str:
    """A row of the table, for so many events."""
    events = purchases(count)
    apart = [
        [one for one in events if int(one.names[0][1:]) % PARTITIONS == number]
        for number in range(PARTITIONS)
    ]
    ordered = await fold(url, f"ordered-{count}", [events])
    behind = await fold(url, f"behind-{count}", apart)
    each = [sum(seconds) / count * 1e6 for seconds in (ordered, behind)]
    return (
        f"| {count:,} | {each[0]:.0f} µs | {each[1]:.0f} µs | {each[1] / each[0]:.1f} | "
        f"{max(behind) * 1e3:.0f} ms |"
    )


def main() -> None:
    """Print what an event costs, in order and behind, as a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, nargs="+", default=[15_000, 60_000])
    options = parser.parse_args()
    print("| Events | In order | Behind | Ratio | Longest call |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as home, Valkey(Path(home), "--maxmemory", "1gb") as server:
        for count in options.events:
            print(asyncio.run(compare(server.url, count)))


if __name__ == "__main__":
    main()
