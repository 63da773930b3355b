"""What champion and challenger say of the same events: `P.shadow`, read from its topic."""

from __future__ import annotations

from collections.abc import Iterable

from streams.kafka.reading import TopicFollower
from streams.kafka.topics import topic_exists
from streams.ledger.state import LedgerState, Stage
from streams.records import Shadowed, decoder
from streams.settings import Settings
from streams.spec import Pipeline

_decode = decoder(Shadowed).decode


async def read_shadowed(settings: Settings, pipeline: Pipeline, most: int) -> list[Shadowed] | None:
    """Every record of the topic; None where it spans more than `most` offsets.

    Raises:
        Unavailable: no broker answers.
    """
    topic = pipeline.topics.shadow
    if not await topic_exists(settings, topic):
        return []
    follower = TopicFollower(settings, topic)
    await follower.start()
    try:
        starts, ends = await follower.starts(), await follower.ends(topic)
        if sum(end - starts[partition] for partition, end in ends.items()) > most:
            return None
        records = await follower.read_to_end()
    finally:
        await follower.stop()
    return [_decode(record.value) for record in records if record.value]


def labelled(records: Iterable[Shadowed], state: LedgerState) -> list[Shadowed]:
    """The labelled events that the comparison of now is about, by event time, each as it is last.

    Those are of the challenger and the version that it is compared with, since its stage began.
    """
    if state.stage in (Stage.NONE, Stage.CANDIDATE):
        return []
    last = {
        (one.key, one.event_id): one
        for one in records
        if (one.challenger, one.champion) == (state.challenger, state.incumbent)
        and one.label is not None
        and not one.early
        and one.event_time >= state.since
    }
    return sorted(last.values(), key=lambda one: (one.event_time, one.event_id))
