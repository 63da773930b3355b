"""Records of `P.scored` and `P.feedback`, read and checked: what passes cannot fail later."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import msgspec
import numpy as np

from streams.dead_letters import shrunk
from streams.errors import BadRecord
from streams.ports.batches import SourceRecord
from streams.ports.labels import EventName, Label, ServedEvent
from streams.records import FeedbackRecord, Scored, decoder
from streams.spec import Pipeline
from streams.spec.durations import seconds, text
from streams.spec.times import LATEST, parse, readable

LARGEST_LABEL = float(np.finfo(np.float32).max) / 2**32
"""Windows count fewer than 2^32 events, so no sum of such labels leaves float32."""
_LONGEST = 1024
"""Most characters of an event id, and bytes of a key: an event that has more is not scored."""

_decode_scored = decoder(Scored).decode
_decode_feedback = decoder(FeedbackRecord).decode


class _Named(msgspec.Struct):
    event_id: str | int


_decode_name = decoder(_Named).decode


def read_served(record: SourceRecord) -> tuple[ServedEvent, float]:
    """What was served, and when its event had happened at the latest (seconds since 1970).

    Raises:
        BadRecord: it is no record of `P.scored`.
    """
    scored = _decoded(_decode_scored, record)
    if not 0 <= scored.event_time <= LATEST:
        raise BadRecord("time", f"event_time {scored.event_time} is no time")
    written = (scored.written or 0.0, record.timestamp / 1000)
    happened = min([scored.event_time, *(at for at in written if at > 0)])
    key, value = record.key or b"", record.value or b""
    return ServedEvent(scored.event_id, key, scored.event_time, value), happened


class FeedbackReader:
    """Reads labels as the pipeline declares them."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._classes = pipeline.feedback.classes
        self._earliest = pipeline.cleaning.earliest.replace(tzinfo=UTC).timestamp()
        self._ahead = seconds(pipeline.cleaning.ahead, "cleaning.ahead")

    def name(self, record: SourceRecord) -> EventName:
        """The event that a record of either topic names. Raises `BadRecord`."""
        return EventName(record.key or b"", str(_decoded(_decode_name, record).event_id))

    def label(self, record: SourceRecord) -> tuple[EventName, Label]:
        """A label and the event that it is for.

        Raises:
            BadRecord: it is not JSON, not a label, has no key, or a time that cannot be.
        """
        feedback: FeedbackRecord = _decoded(_decode_feedback, record)
        if not record.key:
            raise BadRecord("missing-key", "key the label as its event was keyed")
        name = EventName(record.key, str(feedback.event_id))
        if max(len(name.key), len(name.event_id)) > _LONGEST:
            raise BadRecord("too-long", f"no event's id or key is longer than {_LONGEST:,}")
        self._check_value(feedback.label)
        return name, Label(record.offset, feedback.label, self._known_at(feedback, record))

    def _check_value(self, label: float) -> None:
        if self._classes and label not in range(len(self._classes)):
            raise BadRecord("label", f"{label} is not one of 0..{len(self._classes) - 1}")
        if not abs(label) <= LARGEST_LABEL:
            raise BadRecord("label", f"{label} is not finite, or too large to be summed")

    def _known_at(self, feedback: FeedbackRecord, record: SourceRecord) -> float:
        try:
            at = parse(feedback.labelled_at)
        except ValueError:
            raise BadRecord(
                "time", f"labelled_at {feedback.labelled_at!r} is neither ISO 8601 nor a number"
            ) from None
        written = record.timestamp / 1000
        latest = min(written + self._ahead, LATEST) if written > 0 else LATEST
        if not self._earliest <= at <= latest:
            until = f"{readable(latest)}, {text(self._ahead)} after the record was written"
            raise BadRecord(
                "time",
                f"labelled_at {readable(at)} is out of range, which is "
                f"{readable(self._earliest)} to {until if written > 0 else readable(latest)}",
            )
        return at


def _decoded(decode: Any, record: SourceRecord) -> Any:
    if not record.value:
        raise BadRecord("empty", "the record has no value")
    if shrunk(record):
        raise BadRecord("too-large", "the record is too large to be read whole")
    try:
        return decode(record.value)
    except msgspec.ValidationError as error:
        raise BadRecord("invalid", str(error)) from None
    except (msgspec.DecodeError, RecursionError, UnicodeError, ValueError) as error:
        raise BadRecord("malformed", str(error)) from None
