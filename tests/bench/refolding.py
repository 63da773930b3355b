"""How long it takes to fill windows that a change of a pipeline brings, from events that are there.

    python -m tests.bench.refolding --events 15000

Card fraud's events, of one partition, are decoded and folded into an empty state as a worker does
it before it scores the first one: without Kafka, whose reading takes less.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from aiokafka import ConsumerRecord

from streams.adapters.redis.state import RedisFeatureState
from streams.pipelines.card_fraud import pipeline
from streams.ports.batches import SourceRecord
from streams.scoring.decoding import Decoder
from streams.scoring.restoration import Restoration
from streams.testing import sample_events
from tests.valkey import Valkey

_BATCH = 500


async def refold(url: str, count: int) -> float:
    """Seconds that it takes to fold so many events again."""
    events = sample_events(pipeline, count)
    topic = pipeline.topics.events
    records: list[SourceRecord] = [
        ConsumerRecord(topic, 0, number, 0, 0, b"", json.dumps(one).encode(), 0, 0, None, ())
        for number, one in enumerate(events)
    ]

    async def read(
        topic: str, partition: int, first: int, end: int
    ) -> AsyncIterator[list[SourceRecord]]:
        for start in range(first, end, _BATCH):
            yield records[start : min(start + _BATCH, end)]

    state = await RedisFeatureState.connect(url, f"refolded-{count}", pipeline.plan)
    try:
        began = time.perf_counter()
        await Restoration(pipeline, state, Decoder(pipeline), read).partition(0, count, count)
        return time.perf_counter() - began
    finally:
        await state.close()


def main() -> None:
    """Print the seconds, as a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, nargs="+", default=[15_000])
    options = parser.parse_args()
    print("| Events | Seconds | Events a second |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as home, Valkey(Path(home), "--maxmemory", "1gb") as server:
        for count in options.events:
            seconds = asyncio.run(refold(server.url, count))
            print(f"| {count:,} | {seconds:.1f} | {count / seconds:,.0f} |")


if __name__ == "__main__":
    main()
