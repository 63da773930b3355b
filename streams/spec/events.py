"""The event a pipeline reads: its schema, its identity, its time, and how it is cleaned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from numpy.typing import NDArray
from pydantic import (
    AwareDatetime,
    BaseModel,
    FutureDatetime,
    NaiveDatetime,
    PastDatetime,
    PydanticUndefinedAnnotation,
)

from streams.errors import PipelineError
from streams.spec.declared import check_fields
from streams.spec.durations import Duration, seconds
from streams.spec.fields import (
    base_type,
    require_field,
    require_name,
    require_numeric,
    require_value,
)
from streams.spec.times import TimeRange

_LATEST_YEAR = 2100
_TIMES = (datetime, AwareDatetime, NaiveDatetime, PastDatetime, FutureDatetime)

Columns = Mapping[str, NDArray[Any]]
"""A micro-batch by field name: numeric fields as float64 [n], others as object [n].

The event time is always there under its field's name, as float64 seconds since 1970 (UTC).
"""


@dataclass(frozen=True)
class Event:
    """What an event is: a pydantic model, and the fields that identify, key and date it."""

    schema: type[BaseModel]
    """The pydantic model that a record of the events topic is read with."""
    id: str
    """Field that names the event: predictions and labels carry it."""
    key: str
    """Field of the main entity; the events topic is keyed by it."""
    time: str
    """Field of the event time: a `datetime` (UTC when it names no zone), or a number of seconds,
    milliseconds, micro- or nanoseconds since 1970 (`streams.spec.times`)."""

    def __post_init__(self) -> None:
        if not (isinstance(self.schema, type) and issubclass(self.schema, BaseModel)):
            raise PipelineError(
                "event.schema",
                f"{self.schema!r} is not a pydantic model",
                "pass a class that derives from pydantic.BaseModel",
            )
        check_fields(self, "event")
        _complete(self.schema)
        require_field(self.schema, self.time, "event.time")
        if base_type(self.schema, self.time) not in (*_TIMES, int, float):
            raise PipelineError(
                "event.time",
                f"field {self.time!r} is not a time",
                "declare it as datetime, or as epoch seconds (float)",
            )
        for role in ("id", "key"):
            require_name(self.schema, getattr(self, role), f"event.{role}")


def _complete(schema: type[BaseModel]) -> None:
    """Resolve the names of types that were declared after the schema."""
    try:
        schema.model_rebuild()
    except PydanticUndefinedAnnotation as error:
        raise PipelineError(
            "event.schema", f"{error.name!r} is not defined", "import or define it above the Event"
        ) from None


@dataclass(frozen=True)
class Clip:
    """Outliers: values below `low` or above `high` are set to that bound."""

    low: float = -float("inf")
    """The lower bound."""
    high: float = float("inf")
    """The upper bound."""

    def __post_init__(self) -> None:
        check_fields(self, "cleaning.outliers")
        if not self.low < self.high:
            raise PipelineError(
                "cleaning.outliers", f"low {self.low} is not below high {self.high}", "swap them"
            )


@dataclass(frozen=True)
class Cleaning:
    """What happens to missing values, outliers and repeated events before features are made."""

    missing: Mapping[str, float | str] = field(default_factory=dict)
    """Value that replaces `None`, by field. A `None` without one is a dead letter."""
    outliers: Mapping[str, Clip] = field(default_factory=dict)
    """Bounds, by numeric field."""
    duplicates: Duration = "1d"
    """An event id seen again for the same key within this event time is dropped and counted."""
    earliest: datetime = datetime(2000, 1, 1)
    """An event time before this (UTC) is a dead letter."""
    ahead: Duration = "1d"
    """An event time further than this ahead of the record's own timestamp is a dead letter."""

    @property
    def duplicates_seconds(self) -> int:
        """How long an event id is remembered, in event-time seconds."""
        return seconds(self.duplicates, "cleaning.duplicates")

    @property
    def times(self) -> TimeRange:
        """The times that events and labels may bear."""
        return TimeRange(self.earliest, seconds(self.ahead, "cleaning.ahead"))

    def validate(self, schema: type[BaseModel]) -> None:
        """Check each name and bound against the event's schema.

        Raises:
            PipelineError: names the entry that is wrong.
        """
        seconds(self.duplicates, "cleaning.duplicates")
        seconds(self.ahead, "cleaning.ahead")
        for name, like in (("missing", '{"field": 0}'), ("outliers", '{"field": Clip(0, 9)}')):
            if not isinstance(given := getattr(self, name), Mapping):
                raise PipelineError(f"cleaning.{name}", f"{given!r} is no mapping", f"write {like}")
        if not isinstance(self.earliest, datetime):
            raise PipelineError(
                "cleaning.earliest",
                f"{self.earliest!r} is no datetime",
                "write datetime(2024, 1, 1)",
            )
        if self.earliest.year >= _LATEST_YEAR:
            raise PipelineError(
                "cleaning.earliest",
                f"{self.earliest} is later than any event",
                "use a time before the first event",
            )
        for name, filler in self.missing.items():
            require_field(schema, name, f"cleaning.missing[{name!r}]")
            require_value(schema, name, filler, f"cleaning.missing[{name!r}]")
        for name, bounds in self.outliers.items():
            require_numeric(schema, name, f"cleaning.outliers[{name!r}]")
            if not isinstance(bounds, Clip):
                raise PipelineError(
                    f"cleaning.outliers[{name!r}]",
                    f"{bounds!r} is no Clip",
                    "write Clip(low, high)",
                )
