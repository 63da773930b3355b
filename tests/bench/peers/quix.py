"""Rival: Quix Streams, which calls one function per event; at least once.

Its windows collect by key, not by partition, so there is no batch to send to Triton.
"""

from __future__ import annotations

from quixstreams import Application
from quixstreams.context import message_context

from tests.bench.peers.job import Job, Scorer


def main() -> None:
    job = Job.from_arguments(__doc__)
    score = Scorer(job)
    app = Application(
        broker_address=job.kafka,
        consumer_group=job.group,
        auto_offset_reset="earliest",
        commit_interval=1.0,
        auto_create_topics=False,
        producer_extra_config={"enable.idempotence": True, "linger.ms": 5},
        loglevel="WARNING",
    )

    def outputs(value: bytes) -> tuple[bytes, bytes]:
        place = message_context()
        [pair] = score([value], [f"{place.partition}-{place.offset}"])
        return pair

    source = app.topic(job.source, value_deserializer="bytes")
    predictions = app.topic(job.predictions, value_serializer="bytes")
    scored = app.topic(job.scored, value_serializer="bytes")
    frame = app.dataframe(source).apply(outputs)
    frame.apply(lambda pair: pair[0]).to_topic(predictions)
    frame.apply(lambda pair: pair[1]).to_topic(scored)
    app.run()


if __name__ == "__main__":
    main()
