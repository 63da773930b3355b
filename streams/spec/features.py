"""Features: stateless columns, categorical encodings, and keyed window aggregates.

The order of a pipeline's features is the order of its vector. Window aggregates are compiled to a
`FoldPlan` (`streams.spec.windows`), which the feature state executes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, EnumType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from streams.errors import PipelineError
from streams.spec.declared import check_fields
from streams.spec.derived import Derived
from streams.spec.durations import Duration, seconds, text
from streams.spec.events import Columns
from streams.spec.fields import (
    plain,
    require_category,
    require_numeric,
    require_value,
)
from streams.spec.functions import check_function, place_of

Block = NDArray[np.float64]
"""Feature values of a micro-batch, float64 [n, width]."""


@dataclass(frozen=True)
class Column:
    """A numeric field as it is."""

    field: str
    """A field of the event's schema."""
    normalise: bool = True
    """Whether training scales it by statistics that it exports with the model."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the vector's columns."""
        return (self.field,)

    def validate(self, schema: type[BaseModel]) -> None:
        """Raise a `PipelineError` where the declaration does not fit the event's schema."""
        check_fields(self, f"features.{self.field}")
        require_numeric(schema, self.field, f"features.{self.field}")

    def compute(self, columns: Columns) -> Block:
        """Values, [n, 1]."""
        return np.asarray(columns[self.field], np.float64)[:, None]


@dataclass(frozen=True)
class Transform:
    """A pure function of a micro-batch's columns; returns one number per event."""

    name: str
    """Of the vector's column."""
    function: Callable[[Columns], NDArray[np.generic]]
    """Columns by field, read-only: numbers float64 [n], others objects [n]; returns [n]."""
    normalise: bool = True
    """Whether training scales it by statistics that it exports with the model."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the vector's columns."""
        return (self.name,)

    def validate(self, schema: type[BaseModel]) -> None:
        """Raise a `PipelineError` unless the function can be called."""
        check_fields(self, f"features.{self.name}")
        mend = "pass a function of the columns that returns one number per event"
        check_function(self.function, f"features.{self.name}.function", mend)

    def compute(self, columns: Columns) -> Block:
        """Values, [n, 1].

        Raises:
            PipelineError: the function returned something that is not one number per event.
        """
        returned, expected = self.function(columns), len(next(iter(columns.values())))
        try:
            found = np.asarray(returned)
            if found.dtype.kind in "cmM":  # complex numbers, and times of any unit
                raise self._wrong(f"function returned {found.dtype} values")
            values = found.astype(np.float64, copy=False)
        except (TypeError, ValueError) as error:
            raise self._wrong(f"function returned no numbers ({error})") from None
        if values.shape != (expected,):
            raise self._wrong(f"function returned shape {values.shape} for {expected} events")
        return values[:, None]

    def _wrong(self, problem: str) -> PipelineError:
        place = place_of(self.function)
        where = f"{place}: features.{self.name}" if place else f"features.{self.name}"
        return PipelineError(where, problem, "return one number per event")


@dataclass(frozen=True)
class OneHot:
    """A category as one column per known value; an unknown value is all zeros."""

    field: str
    """A field of the event's schema."""
    values: Sequence[str | int | float | Enum]
    """Of the field's own type: the number 1 is not the text "1"."""
    normalise = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the vector's columns."""
        return tuple(f"{self.field}={plain(value)}" for value in self.values)

    def validate(self, schema: type[BaseModel]) -> None:
        """Raise a `PipelineError` where the declaration does not fit the event's schema."""
        where = f"features.{self.field}.values"
        check_fields(self, f"features.{self.field}")
        require_category(schema, self.field, f"features.{self.field}")
        text = isinstance(self.values, str)
        if text or not isinstance(self.values, Sequence | EnumType):  # a set has no order
            kind = "one text" if text else "no list"
            raise PipelineError(where, f"{self.values!r} is {kind}", 'write ("a", "b")')
        for value in self.values:
            require_value(schema, self.field, value, where)
        if not self.values or len(set(self.values)) != len(self.values):
            raise PipelineError(
                f"features.{self.field}",
                "values are empty or repeated",
                "list each known value once",
            )

    def compute(self, columns: Columns) -> Block:
        """Zeros and ones, [n, len(values)]."""
        column = np.asarray(_plain(columns[self.field]), object)
        found = [column == plain(value) for value in self.values]
        return np.stack(found, axis=1).astype(np.float64)


@dataclass(frozen=True)
class Bucket:
    """A large category as one index for an embedding: CRC-32 of its text modulo `buckets`.

    A whole number's text has its digits alone, whatever its type: 5411, never 5411.0.
    """

    field: str
    """A field of the event's schema."""
    buckets: int
    """How many there are, 2 to 16,777,216."""
    normalise = False
    revision = 2
    """Of what it computes: part of what the vector means."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the vector's columns."""
        return (f"{self.field}%{self.buckets}",)

    def validate(self, schema: type[BaseModel]) -> None:
        """Raise a `PipelineError` where the declaration does not fit the event's schema."""
        check_fields(self, f"features.{self.field}")
        require_category(schema, self.field, f"features.{self.field}")
        if not 2 <= self.buckets <= 1 << 24:
            raise PipelineError(
                f"features.{self.field}",
                f"buckets={self.buckets}",
                "use 2 to 16,777,216 buckets: more is not exact in float32",
            )

    def compute(self, columns: Columns) -> Block:
        """Indices from 0, [n, 1]."""
        texts = map(_text, _plain(columns[self.field]))
        codes = [zlib.crc32(text.encode()) % self.buckets for text in texts]
        return np.array(codes, np.float64)[:, None]


def _plain(column: NDArray[Any]) -> Sequence[Any]:
    """A column's values; of members of an Enum, what they stand for."""
    if column.dtype == object and any(issubclass(kind, Enum) for kind in set(map(type, column))):
        return list(map(plain, column))
    found: Sequence[Any] = column.tolist()
    return found


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


@dataclass(frozen=True)
class Window:
    """A keyed aggregate over event time (t - delay - over, t - delay], this event included."""

    key: str
    """The field that names the entity."""
    over: Duration
    """How long the window is."""
    delay: Duration = "0s"
    """How long before the event it ends."""
    name: str = ""
    """Of the vector's column; made from the rest where empty."""
    normalise: bool = True
    """Whether training scales it by statistics that it exports with the model."""

    aggregate = ""

    @property
    def of(self) -> str:
        """The field that is aggregated; empty where events are counted."""
        return ""

    @property
    def newest(self) -> int:
        """Age of the window's newer edge, seconds."""
        return seconds(self.delay, f"features.{self.label}.delay")

    @property
    def oldest(self) -> int:
        """Age of the window's older edge, seconds."""
        return self.newest + seconds(self.over, f"features.{self.label}.over")

    @property
    def label(self) -> str:
        """The declaration's name where it has one, else what it says."""
        return self.name or f"{self.key}.{self.aggregate}({self.of})/{self.over}"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the vector's columns."""
        if self.name:
            return (self.name,)
        of = f"_{self.of}" if self.of else ""
        late = f"_after_{text(self.newest)}" if self.newest else ""
        return (f"{self.key}_{self.aggregate}{of}_{text(self.oldest - self.newest)}{late}",)

    def validate(self, schema: type[BaseModel]) -> None:
        """Raise a `PipelineError` where the declaration does not fit the event's schema."""
        check_fields(self, f"features.{self.label}")
        require_category(schema, self.key, f"features.{self.label}.key")
        if self.oldest == self.newest:
            raise PipelineError(
                f"features.{self.label}.over", "the window is empty", "use 1s or more"
            )
        if self.of:
            require_numeric(schema, self.of, f"features.{self.label}.field")


@dataclass(frozen=True)
class Count(Window):
    """Number of the key's events in the window."""

    aggregate = "count"


@dataclass(frozen=True, kw_only=True)
class _OfField(Window):
    """An aggregate of a field."""

    field: str
    """The numeric field that is aggregated."""

    @property
    def of(self) -> str:
        """The field that is aggregated."""
        return self.field


@dataclass(frozen=True, kw_only=True)
class Sum(_OfField):
    """Sum of a field over the key's events in the window."""

    aggregate = "sum"


@dataclass(frozen=True, kw_only=True)
class Mean(_OfField):
    """Mean of a field over the key's events in the window; 0 where it has none."""

    aggregate = "mean"


@dataclass(frozen=True)
class LabelRate(Window):
    """Sum of labels over the number of the key's events in the window; 0 where it has none.

    Labels count from when their feedback arrives, so `delay` should be the feedback's horizon.
    """

    aggregate = "label_rate"


Feature = Column | Transform | OneHot | Bucket | Window | Derived
