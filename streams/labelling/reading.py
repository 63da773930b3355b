"""Records of `P.scored` and `P.feedback`, read and checked: what passes cannot fail later."""

from __future__ import annotations

from typing import Any

import msgspec

from streams.dead_letters import shrunk
from streams.errors import BadRecord
from streams.ports.batches import SourceRecord
from streams.ports.features import LARGEST_SUMMED, LONGEST_NAME
from streams.ports.labels import EventName, Label, ServedEvent
from streams.records import FeedbackRecord, Scored, decoder
from streams.spec import Pipeline
from streams.spec.times import LATEST, parse

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
        self._indices = {name: float(i) for i, name in enumerate(pipeline.feedback.classes)}
        self._numbers = pipeline.predicts.classes == 0
        self._times = pipeline.cleaning.times
        self._ranks = pipeline.predicts.ranks

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
        if max(len(name.key), len(name.event_id)) > LONGEST_NAME:
            raise BadRecord("too-long", f"no event's id or key is longer than {LONGEST_NAME:,}")
        value, at = self._value(feedback.label), self._known_at(feedback, record)
        if not self._ranks:
            return name, Label(record.offset, value, at)
        if feedback.item is None or not str(feedback.item):
            raise BadRecord("label", "names no item: a ranking's label is that of a candidate")
        if value < 0:
            raise BadRecord("label", f"{value} is below 0, which is what nobody chose")
        return name, Label(record.offset, value, at, str(feedback.item))

    def _value(self, label: float | bool | str) -> float:
        """A label as a number: of a class, its index."""
        if self._numbers:
            label = _number(label)
        if isinstance(label, str):
            if label not in self._indices:
                known = ", ".join(self._indices) or "declared: feedback.classes is empty"
                raise BadRecord("label", f"{label!r} is no class, those are {known}")
            return self._indices[label]
        label = float(label)
        if self._indices and label not in range(len(self._indices)):
            raise BadRecord("label", f"{label} is not one of 0..{len(self._indices) - 1}")
        if not abs(label) <= LARGEST_SUMMED:
            raise BadRecord("label", f"{label} is not finite, or too large to be summed")
        return label

    def _known_at(self, feedback: FeedbackRecord, record: SourceRecord) -> float:
        try:
            at = parse(feedback.labelled_at)
        except ValueError:
            raise BadRecord(
                "time", f"labelled_at {feedback.labelled_at!r} is neither ISO 8601 nor a number"
            ) from None
        if complaint := self._times.complaint(at, record.timestamp / 1000):
            raise BadRecord("time", f"labelled_at {complaint}")
        return at


def _number(label: float | bool | str) -> float:
    """A number, which in a CSV is a text. Raises `BadRecord`."""
    try:
        if not isinstance(label, bool):
            return float(label)
    except ValueError:
        pass
    raise BadRecord("label", f"{label!r} is no number")


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
