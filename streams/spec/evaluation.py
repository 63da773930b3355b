"""How live quality is measured: in buckets of event time, of all events and of slices of them."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.errors import PipelineError
from streams.spec.declared import check_fields
from streams.spec.durations import Duration, seconds

_WHERE = "policies.evaluate"
_COMPARED: dict[str, Callable[[NDArray[np.float32], float], NDArray[np.bool_]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
}
_CONDITION = re.compile(r"(.+?)\s*(>=|<=|==|>|<)\s*([-+.\deE]+)")


@dataclass(frozen=True)
class Slices:
    """Parts of the events whose quality is followed by itself, by what the model sees of them."""

    by: tuple[str, ...] = ()
    """Conditions on a feature, as `amount>200`; or a feature's name: of a `OneHot`, each category
    is a slice, of any other the events where it is not 0."""
    most: int = 32
    """More slices than this are an error: each is kept for every bucket and version."""

    def __post_init__(self) -> None:
        check_fields(self, f"{_WHERE}.slices")


class Slice(NamedTuple):
    """Some of the events: those where a column of their vectors meets a condition."""

    name: str
    column: int
    compare: Callable[[NDArray[np.float32], float], NDArray[np.bool_]]
    value: float

    def mask(self, vectors: NDArray[np.float32]) -> NDArray[np.bool_]:
        """[n] which of the vectors [n, features] are in the slice."""
        return self.compare(vectors[:, self.column], self.value)


@dataclass(frozen=True)
class Evaluate:
    """How the quality of what was served is measured, once labels have matured."""

    every: Duration = "1d"
    """Event time of a bucket: quality is known by bucket and version."""
    slices: Slices = field(default_factory=Slices)
    """Parts of the events that are followed by themselves."""
    top: int = 100
    """Keys that are looked at in a bucket, those with the highest scores: how many of them are of
    class 1 is the precision of the top (card precision, where the key is a card). 0: none are."""
    costs: tuple[tuple[float, ...], ...] = ()
    """What a decision costs, a row for each label and a column for each decision: with
    `((0, 1), (50, 0))` an alert for nothing costs 1, a positive that is missed 50."""

    def __post_init__(self) -> None:
        check_fields(self, _WHERE)
        if not isinstance(self.slices, Slices):
            raise PipelineError(
                f"{_WHERE}.slices", f"{self.slices!r} is no Slices", "write Slices(by=(...))"
            )
        if self.every_seconds < 1:
            raise PipelineError(f"{_WHERE}.every", "is zero", "use 1s or more")
        if not 0 <= self.top <= 10_000:
            raise PipelineError(f"{_WHERE}.top", f"{self.top} is not in 0..10000", "use 100 or so")

    def check_costs(self, classes: int) -> None:
        """Raise a `PipelineError` unless there is a cost for each label and decision, or none."""
        if self.costs and {len(self.costs), *map(len, self.costs)} != {classes}:
            raise PipelineError(
                f"{_WHERE}.costs",
                f"{self.costs} is no square of {classes} classes",
                "write a row for each label with a cost for each decision, as ((0, 1), (50, 0))",
            )

    @property
    def every_seconds(self) -> int:
        """Event-time seconds of a bucket."""
        return seconds(self.every, f"{_WHERE}.every")


def compile_slices(declared: Slices, features: Sequence[str]) -> tuple[Slice, ...]:
    """The slices of vectors with these columns.

    Raises:
        PipelineError: a condition names no feature, or there are more than `most`.
    """
    found = tuple(one for text in declared.by for one in _slices(text, features))
    if len(found) > declared.most:
        raise PipelineError(
            f"{_WHERE}.slices.by",
            f"makes {len(found)} slices, slices.most is {declared.most}",
            "name fewer, or raise most",
        )
    return found


def _slices(text: str, features: Sequence[str]) -> Iterator[Slice]:
    if text in features:
        yield Slice(text, features.index(text), operator.ne, 0.0)
        return
    categories = [name for name in features if name.startswith(f"{text}=")]
    for name in categories:
        yield Slice(name, features.index(name), operator.ne, 0.0)
    if categories:
        return
    condition = _CONDITION.fullmatch(text.strip())
    if condition is None or condition[1] not in features or not _number(condition[3]):
        raise PipelineError(
            f"{_WHERE}.slices.by",
            f"{text!r} is no condition on a feature",
            f"write a feature's name, or one with >, >=, <, <= or == and a number, of "
            f"{', '.join(features[:8])}{', ...' if len(features) > 8 else ''}",
        )
    name, sign, value = condition.groups()
    yield Slice(text.replace(" ", ""), features.index(name), _COMPARED[sign], float(value))


def _number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
