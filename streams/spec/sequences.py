"""What an entity did before, one event after the other, as an input."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from streams.errors import PipelineError
from streams.spec.aggregates import Lag
from streams.spec.declared import check_fields
from streams.spec.durations import Duration
from streams.spec.fields import require_category
from streams.spec.inputs import check_name
from streams.spec.layout import Tensor
from streams.spec.windows import FoldPlan, select

_MOST = 1000


@dataclass(frozen=True)
class LastN:
    """A field's values in the entity's last events before this one, the newest first.

    With a `vocabulary` they are categories, hashed to 1 up to `vocabulary` - 1, 0 after the last,
    and the network gets int64 [n, last]. Without one they are numbers, float32 [n, last].
    """

    name: str
    """Of the network's argument."""
    key: str
    """The field that names the entity."""
    field: str
    """A field of the event's schema."""
    last: int = 50
    """How many events, at most."""
    over: Duration = "30d"
    """How old they may be."""
    vocabulary: int = 0
    """Rows that the network's embedding has to have, at least; 0 for numbers."""

    @property
    def tensor(self) -> Tensor:
        """Indices, or numbers; 0 where there are fewer events."""
        if self.vocabulary:
            return Tensor(self.name, "<i4", (self.last,), "indices", self.vocabulary)
        return Tensor(self.name, "<f4", (self.last,))

    @property
    def meaning(self) -> list[Any]:
        """Whose values, and of which time."""
        return ["last", self.key, self.field, self.windows[0].oldest, self.vocabulary]

    @cached_property
    def windows(self) -> tuple[Lag, ...]:
        """What the feature state finds: one value for each of the events before."""
        return tuple(
            Lag(self.key, self.over, field=self.field, back=back, default=np.nan)
            for back in range(1, self.last + 1)
        )

    def validate(self, schema: type[BaseModel]) -> None:
        """Raise a `PipelineError` where the declaration does not fit the event's schema."""
        where = f"inputs.{self.name}"
        check_fields(self, where)
        check_name(self.name, "inputs.name")
        require_category(schema, self.key, f"{where}.key")
        require_category(schema, self.field, f"{where}.field")
        if not 1 <= self.last <= _MOST:
            raise PipelineError(f"{where}.last", f"{self.last} cannot be", f"use 1 to {_MOST:,}")
        if self.vocabulary < 0 or self.vocabulary == 1:
            raise PipelineError(
                f"{where}.vocabulary",
                f"{self.vocabulary} is too small",
                "use 2 or more, or 0 for numbers",
            )
        _ = self.windows[0].oldest  # raises where `over` is no duration

    def found(self, plan: FoldPlan, folded: NDArray[np.float64]) -> NDArray[Any]:
        """The tensor of each event, [n, last], of a fold's [n, plan.width]."""
        values = np.stack([select(plan, one)(folded) for one in self.windows], axis=1)
        if not self.vocabulary:
            return np.nan_to_num(values).astype(np.float32)
        return np.where(np.isnan(values), 0, 1 + values % (self.vocabulary - 1)).astype(np.int32)
