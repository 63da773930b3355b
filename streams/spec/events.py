"""The event a pipeline reads: its schema, its identity, its time, and how it is cleaned."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from numpy.typing import NDArray
from pydantic import BaseModel

from streams.errors import PipelineError
from streams.spec.durations import Duration, seconds
from streams.spec.times import TimeRange

Columns = Mapping[str, NDArray[Any]]
"""A micro-batch by field name: numeric fields as float64 [n], others as object [n].

The event time is always there under its field's name, as float64 seconds since 1970 (UTC).
"""


@dataclass(frozen=True)
class Event:
    """What an event is: a pydantic model, and the fields that identify, key and date it."""

    schema: type[BaseModel]
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
        for role in ("id", "key", "time"):
            require_field(self.schema, getattr(self, role), f"event.{role}")
        if base_type(self.schema, self.time) not in (datetime, int, float):
            raise PipelineError(
                "event.time",
                f"field {self.time!r} is not a time",
                "declare it as datetime, or as epoch seconds (float)",
            )
        for role in ("id", "key"):
            if base_type(self.schema, getattr(self, role)) not in (str, int):
                raise PipelineError(
                    f"event.{role}",
                    f"field {getattr(self, role)!r} is not str or int",
                    "declare it as str or int",
                )


@dataclass(frozen=True)
class Clip:
    """Outliers: values below `low` or above `high` are set to that bound."""

    low: float = -float("inf")
    high: float = float("inf")

    def __post_init__(self) -> None:
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
        for name, filler in self.missing.items():
            require_field(schema, name, f"cleaning.missing[{name!r}]")
            _require_filler(schema, name, filler)
        for name in self.outliers:
            require_numeric(schema, name, f"cleaning.outliers[{name!r}]")


def _require_filler(schema: type[BaseModel], name: str, filler: object) -> None:
    """Raise a `PipelineError` unless a field may have this value."""
    if base_type(schema, name) not in (int, float, bool):
        return
    number = isinstance(filler, int | float) and math.isfinite(filler)
    if not number:
        raise PipelineError(
            f"cleaning.missing[{name!r}]",
            f"{filler!r} is no number, as {name!r} is",
            "give a number that is finite",
        )


def require_field(schema: type[BaseModel], name: str, where: str) -> None:
    """Raise a `PipelineError` unless `schema` has a field of that name."""
    if name not in schema.model_fields:
        known = ", ".join(schema.model_fields)
        raise PipelineError(
            where, f"{schema.__name__} has no field {name!r}", f"use one of: {known}"
        )


def require_numeric(schema: type[BaseModel], name: str, where: str) -> None:
    """Raise a `PipelineError` unless that field of `schema` is a number."""
    require_field(schema, name, where)
    if base_type(schema, name) not in (int, float, bool):
        raise PipelineError(
            where,
            f"field {name!r} is not a number",
            "use a numeric field, or OneHot or Bucket for categories",
        )


def base_type(schema: type[BaseModel], name: str) -> Any:
    """The field's type without `| None` and without annotations."""
    annotation: Any = schema.model_fields[name].annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(annotation) if option is not type(None)]
        annotation = options[0] if len(options) == 1 else annotation
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    return annotation


def optional(schema: type[BaseModel], name: str) -> bool:
    """Whether the field may be `None`."""
    annotation = schema.model_fields[name].annotation
    return type(None) in typing.get_args(annotation)
