"""Keyed window aggregates: what an entity's events of some time come to.

They are compiled to a `FoldPlan` (`streams.spec.windows`), which the feature state executes. What
is a difference of sums costs the same whatever the window holds; what needs the events one by one
(`Min`, `Max`, `Std`, `CountDistinct`) costs more with each of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel

from streams.errors import PipelineError
from streams.spec.declared import check_fields
from streams.spec.durations import Duration, seconds, text
from streams.spec.fields import require_category, require_numeric

_LARGEST = float(np.finfo(np.float32).max)


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

    @property
    def aggregate(self) -> str:
        """What the column's name says of how events are aggregated."""
        return ""

    @property
    def of(self) -> str:
        """The field that is aggregated; empty where events are counted."""
        return ""

    @property
    def empty(self) -> float:
        """The value where the window has no event."""
        return 0.0

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
        self._validate_field(schema)
        if not abs(self.empty) <= _LARGEST:
            raise PipelineError(
                f"features.{self.label}.default",
                f"{self.empty!r} is no finite float32",
                "give a number that a model can take",
            )

    def _validate_field(self, schema: type[BaseModel]) -> None:
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


@dataclass(frozen=True, kw_only=True)
class Std(_OfField):
    """Population standard deviation of a field over the window; 0 where it has no event, or one.

    It is computed from the events, not from sums of squares: whatever the mean is, the error is
    below 1e-9 of the deviation plus 1e-14 of the largest value.
    """

    aggregate = "std"


@dataclass(frozen=True, kw_only=True)
class CountDistinct(_OfField):
    """How many different values of a field the key's events in the window have; 0 for no event.

    Numbers are told apart exactly, texts by 53 bits of a hash of how they are spelt.
    """

    field: str
    """The field whose values are counted: a number or a category."""

    aggregate = "distinct"

    def _validate_field(self, schema: type[BaseModel]) -> None:
        require_category(schema, self.field, f"features.{self.label}.field")


@dataclass(frozen=True, kw_only=True)
class _OfEvent(_OfField):
    """The value of one of the window's events."""

    default: float = 0.0
    """The value where the window has no such event."""

    @property
    def empty(self) -> float:
        """The value where the window has no such event."""
        return self.default


@dataclass(frozen=True, kw_only=True)
class Min(_OfEvent):
    """Least value of a field over the key's events in the window; `default` where it has none."""

    aggregate = "min"


@dataclass(frozen=True, kw_only=True)
class Max(_OfEvent):
    """Largest value of a field over the key's events in the window; `default` where it has none."""

    aggregate = "max"


@dataclass(frozen=True, kw_only=True)
class First(_OfEvent):
    """A field's value in the window's oldest event; `default` where the window has none."""

    aggregate = "first"


@dataclass(frozen=True, kw_only=True)
class Last(_OfEvent):
    """A field's value in the window's newest event before this one; `default` where it has none.

    With a `delay`, in the newest that is at least so old.
    """

    aggregate = "last"
    back = 1


@dataclass(frozen=True, kw_only=True)
class Lag(_OfEvent):
    """A field's value `back` events before this one; `default` where the window has fewer.

    With a `delay`, events that are not as old are passed over.
    """

    back: int = 1
    """How many events before: 1 for the one right before it."""

    @property
    def aggregate(self) -> str:
        """What the column's name says: lag, lag2, lag3."""
        return "lag" if self.back == 1 else f"lag{self.back}"

    def validate(self, schema: type[BaseModel]) -> None:
        """Raise a `PipelineError` where the declaration does not fit the event's schema."""
        super().validate(schema)
        if not 1 <= self.back < 1 << 15:
            raise PipelineError(
                f"features.{self.label}.back",
                f"{self.back} is no number of events before this one",
                "use 1 for the event right before it, at most 32767",
            )


@dataclass(frozen=True, kw_only=True)
class TimeSince(Window):
    """Seconds since the entity's event before this one; `default` where the window has none.

    With a `delay`, since the newest that is at least so old.
    """

    default: float | None = None
    """The value where the window has no such event; `None` for the age at which the window ends."""

    aggregate = "time_since"
    back = 1

    @property
    def empty(self) -> float:
        """The value where the window has no such event."""
        return float(self.oldest) if self.default is None else self.default


@dataclass(frozen=True, kw_only=True)
class LabelRate(Window):
    """Sum of labels over the number of the key's events in the window; 0 where it has none.

    Labels count from when their feedback arrives, so `delay` should be the feedback's horizon.
    """

    class_: int | None = None
    """Of several classes the one whose share this is, by its index; an event without a label is of
    class 0."""
    smooth: tuple[float, float] | None = None
    """(prior, strength): (sum + prior * strength) / (events + strength), as if there were so many
    more events whose mean is the prior, which is then the value of an empty window."""

    @property
    def aggregate(self) -> str:
        """What the column's name says: label_rate, label_rate_2 of class 2."""
        return "label_rate" if self.class_ is None else f"label_rate_{self.class_}"

    @property
    def empty(self) -> float:
        """The value where the window has no event."""
        return self.smooth[0] if self.smooth else 0.0

    def validate(self, schema: type[BaseModel]) -> None:
        """Raise a `PipelineError` where the declaration does not fit the event's schema."""
        super().validate(schema)
        if self.class_ is not None and self.class_ < 0:
            raise PipelineError(
                f"features.{self.label}.class_", f"{self.class_} is no class", "use 0 or more"
            )
        if self.smooth is not None and (len(self.smooth) != 2 or not 0 < self.smooth[1] < np.inf):
            raise PipelineError(
                f"features.{self.label}.smooth",
                f"{self.smooth} is no prior and a strength above 0",
                "write (0.01, 20): a rate of 0.01, worth 20 events",
            )
