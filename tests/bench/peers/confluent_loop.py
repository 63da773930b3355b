"""Rival: confluent-kafka (librdkafka) by hand, in batches of 1024; at least once."""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer

from tests.bench.peers.job import COMMIT_SECONDS, Job, Scorer
from tests.bench.workloads import BATCH


def main() -> None:
    job = Job.from_arguments(__doc__)
    consumer = Consumer(
        {
            "bootstrap.servers": job.kafka,
            "group.id": job.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 10,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": job.kafka,
            "enable.idempotence": True,
            "linger.ms": 20,
            "batch.size": 1 << 20,
            "queue.buffering.max.messages": 1_000_000,
            "delivery.report.only.error": True,
            "on_delivery": _raise,
        }
    )
    consumer.subscribe([job.source])
    score = Scorer(job)
    committed, pending = time.monotonic(), False
    while True:
        messages = consumer.consume(BATCH, timeout=0.05)
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
        if messages:
            _write(job, score, producer, messages)
            pending = True
        producer.poll(0)
        if pending and time.monotonic() - committed > COMMIT_SECONDS:
            producer.flush()
            consumer.commit(asynchronous=True)
            committed, pending = time.monotonic(), False


def _write(job: Job, score: Scorer, producer: Producer, messages: list[Any]) -> None:
    places = [(message.key(), message.partition(), message.offset()) for message in messages]
    outputs = score(
        [message.value() for message in messages],
        [f"{partition}-{offset}" for _, partition, offset in places],
    )
    for (key, partition, _), (prediction, scored) in zip(places, outputs, strict=True):
        producer.produce(job.predictions, prediction, key, partition)
        producer.produce(job.scored, scored, key, partition)


def _raise(error: Any, _: Any) -> None:
    if error:
        raise KafkaException(error)


if __name__ == "__main__":
    main()
