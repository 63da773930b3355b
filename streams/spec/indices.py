"""Lists of whole numbers as an input: what a user has seen, each an index for an embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from streams.errors import PipelineError
from streams.spec.declared import check_fields
from streams.spec.fields import base_type
from streams.spec.inputs import Read, Values, check_name, each
from streams.spec.layout import Tensor


@dataclass(frozen=True)
class Indices:
    """The last of a list's whole numbers: the network gets int64 [n, length], 0 after the last."""

    name: str
    """Of the network's argument."""
    field: str
    """A field of the event's schema: a list of whole numbers from 1 on."""
    length: int = 64
    """How many the network sees, the latest: those at the end of the list."""
    most: int = 65_536
    """All are below this: the rows that the network's embedding has to have, at least."""

    @property
    def tensor(self) -> Tensor:
        """Indices."""
        return Tensor(self.name, "<i4", (self.length,), "indices", self.most)

    @property
    def meaning(self) -> list[Any]:
        """Its field."""
        return ["indices", self.field]

    def validate(self, schema: type[BaseModel]) -> None:
        """Raise a `PipelineError` where the declaration does not fit the event's schema."""
        where = f"inputs.{self.name}"
        check_fields(self, where)
        check_name(self.name, "inputs.name")
        if self.field not in schema.model_fields or base_type(schema, self.field) != list[int]:
            raise PipelineError(
                f"{where}.field",
                f"field {self.field!r} is no list of whole numbers",
                "declare it as list[int]",
            )
        if self.length < 1:
            raise PipelineError(f"{where}.length", f"{self.length} is too few", "use 1 or more")
        if not 2 <= self.most <= 1 << 31:
            raise PipelineError(f"{where}.most", f"{self.most} is no number of rows", "use 65_536")

    def read(self, values: Values) -> Read:
        """The last numbers of each list, [n, length]."""
        return each(values, self.tensor, self._one)

    def _one(self, value: Any) -> NDArray[np.int32]:
        found, last = np.zeros(self.length, np.int32), value[-self.length :]
        if last and not 1 <= min(last) <= max(last) < self.most:
            raise ValueError(f"has a number that is not 1 to {self.most - 1:,}")
        found[: len(last)] = last
        return found

    def sample(self, random: np.random.Generator) -> Any:
        """A few numbers."""
        few = int(random.integers(0, self.length + 1))
        return random.integers(1, self.most, few).tolist()
