"""Features that are computed from others: a ratio of two windows, an amount over its mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from streams.errors import PipelineError
from streams.spec.declared import check_fields
from streams.spec.functions import check_function, place_of

Of = Mapping[str, NDArray[np.float64]]
"""Features by name, float64 [n] each, read-only."""


@dataclass(frozen=True)
class Derived:
    """A pure function of other features, windows included; returns one number per event."""

    name: str
    """Of the vector's column."""
    of: tuple[str, ...]
    """Names of the features that the function gets: any, or those of it that are derived before."""
    function: Callable[[Of], NDArray[np.generic]]
    """Those features by name, float64 [n], read-only; returns [n]."""
    normalise: bool = True
    """Whether training scales it by statistics that it exports with the model."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the vector's columns."""
        return (self.name,)

    def validate(self, schema: type[BaseModel]) -> None:
        """Raise a `PipelineError` unless the function can be called."""
        del schema
        where = f"features.{self.name}"
        check_fields(self, where)
        mend = "pass a function of the features that returns one number per event"
        check_function(self.function, f"{where}.function", mend)
        if not self.of:
            raise PipelineError(f"{where}.of", "is empty", "name the features that it is made of")

    def check_of(self, known: Sequence[str]) -> None:
        """Raise a `PipelineError` where it names a feature that is not known."""
        for name in self.of:
            if name not in known:
                raise PipelineError(
                    f"features.{self.name}.of",
                    f"{name!r} is no feature before it",
                    f"use one of: {', '.join(known)}",
                )

    def compute(self, features: Of) -> NDArray[np.float64]:
        """Values, [n].

        Raises:
            PipelineError: the function fails, or returns no number for each event.
        """
        given = {name: features[name] for name in self.of}
        [count] = {len(column) for column in given.values()}
        for column in given.values():
            column.flags.writeable = False
        try:
            found = np.asarray(self.function(given)).astype(np.float64, copy=False)
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise self._wrong(f"function fails ({type(error).__name__}: {error})") from error
        if found.shape != (count,):
            raise self._wrong(f"function returned shape {found.shape} for {count} events")
        return found

    def _wrong(self, problem: str) -> PipelineError:
        place = place_of(self.function)
        where = f"{place}: features.{self.name}" if place else f"features.{self.name}"
        return PipelineError(where, problem, "return one number per event")
