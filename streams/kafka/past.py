"""What was predicted before, as the predictions themselves say."""

from __future__ import annotations

import msgspec

from streams.kafka.reading import read_last
from streams.records import Prediction, decoder
from streams.settings import Settings

_decode = decoder(Prediction).decode
_LOOK_AT = 4096
"""Most predictions that are read, from the latest on, to find one of the present events topic."""


class TopicPredictions:
    """`PastPredictions` of the events topic of one id."""

    def __init__(self, settings: Settings, topic: str, events_id: str) -> None:
        self._settings = settings
        self._topic = topic
        self._prefix = f"{events_id[:6]}-" if events_id else ""

    @property
    def prefix(self) -> str:
        """Begins the ids of predictions for events of the topic of this id."""
        return self._prefix

    async def end(self, partition: int) -> int:
        """The offset after the last event that has its prediction; 0 where none has."""
        ours = f"{self._prefix}{partition}-"
        for record in reversed(await read_last(self._settings, self._topic, partition, _LOOK_AT)):
            try:
                found = _decode(record.value or b"").id
            except msgspec.MsgspecError:
                continue
            offset = found.removeprefix(ours)
            if found.startswith(ours) and offset.isdecimal():
                return int(offset) + 1
        return 0
