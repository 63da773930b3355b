"""Features: stateless columns and categorical encodings; windows are in `streams.spec.aggregates`.

The order of a pipeline's features is the order of its vector.
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
from streams.spec.aggregates import Window
from streams.spec.declared import check_fields
from streams.spec.derived import Derived
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


Feature = Column | Transform | OneHot | Bucket | Window | Derived
