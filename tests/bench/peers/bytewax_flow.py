"""Rival: Bytewax, whose Kafka source gives batches of 1024; at least once, by its snapshots."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from tests.bench.peers.job import Job, Scorer
from tests.bench.workloads import BATCH


def flow(job: Job) -> Dataflow:
    score = Scorer(job)

    def outputs(messages: list[Any]) -> list[KafkaSinkMessage]:
        pairs = score(
            [message.value for message in messages],
            [f"{message.partition}-{message.offset}" for message in messages],
        )
        return [
            KafkaSinkMessage(message.key, value, topic)
            for message, pair in zip(messages, pairs, strict=True)
            for topic, value in zip((job.predictions, job.scored), pair, strict=True)
        ]

    made = Dataflow("score")
    source = KafkaSource([job.kafka], [job.source], batch_size=BATCH)
    scored = op.flat_map_batch("score", op.input("events", made, source), outputs)
    # one sink for both topics: it flushes after each batch
    options = {
        "enable.idempotence": "true",
        "batch.size": str(1 << 20),
        "queue.buffering.max.messages": "1000000",
        "partitioner": "murmur2_random",
    }
    op.output("outputs", scored, KafkaSink([job.kafka], None, add_config=options))
    return made


def main() -> None:
    job = Job.from_arguments(__doc__)
    with tempfile.TemporaryDirectory() as home:
        init_db_dir(Path(home), 1)
        cli_main(
            flow(job),
            epoch_interval=timedelta(seconds=1),
            recovery_config=RecoveryConfig(home),
        )


if __name__ == "__main__":
    main()
