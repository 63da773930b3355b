"""Candidates: the items of a request that are ranked, each with features of its own."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, repeat
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, create_model

from streams.errors import PipelineError
from streams.spec.declared import check_fields
from streams.spec.derived import Derived
from streams.spec.features import Bucket, Column, OneHot, Transform
from streams.spec.fields import base_type, numeric, plain, require_field, require_name, spelt
from streams.spec.inputs import Read, Values
from streams.spec.layout import Tensor
from streams.spec.meaning import meaning
from streams.spec.times import numbers

NAME = "candidates"
"""Of the tensor, and of the network's argument."""
MOST = 200
"""Candidates that a request may have."""
_OWN = (Column, OneHot, Bucket, Transform)


@dataclass(frozen=True)
class Candidates:
    """What a request asks to be ranked: a list of ids, or of objects that have one.

    The network gets float32 [n, most, 1 + features]: 1 and the candidate's features as they are,
    not normalised; zeros after a request's last. It returns a logit for each, [n, most].
    """

    field: str
    """A field of the event's schema: a list of ids (str or int), or of pydantic models."""
    key: str
    """Names the id: the objects' field, or, of a list of ids, what features call it."""
    most: int = 100
    """Requests with more are dead letters. At most 200."""
    features: Sequence[Column | OneHot | Bucket | Transform] = ()
    """Of a candidate alone, by its own fields."""
    explore: float = 0.0
    """The share of requests whose candidates are shown in random order."""
    top: int = 10
    """How many of the first places count in nDCG and in the hit rate."""

    name = NAME

    @property
    def tensor(self) -> Tensor:
        """Float32 [most, 1 + features]."""
        return Tensor(NAME, "<f4", (self.most, 1 + len(self.feature_names)))

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Of a candidate's columns, after the first."""
        return tuple(name for feature in self.features for name in feature.names)

    @property
    def meaning(self) -> list[Any]:
        """Its field, its id, and its features."""
        found = [
            [f"{type(one).__name__}{getattr(one, 'revision', '')}", meaning(vars(one))]
            for one in self.features
        ]
        return ["candidates", self.field, self.key, found]

    def validate(self, schema: type[BaseModel]) -> None:
        """Raise a `PipelineError` where the declaration does not fit the event's schema."""
        check_fields(self, NAME)
        require_field(schema, self.field, f"{NAME}.field")
        if not 2 <= self.most <= MOST:
            raise PipelineError(
                f"{NAME}.most", f"{self.most} is not 2 to {MOST}", "rank the best of a first choice"
            )
        if not 0.0 <= self.explore <= 1.0:
            raise PipelineError(f"{NAME}.explore", f"{self.explore} is no share", "use 0.05 or so")
        if self.top < 1:
            raise PipelineError(f"{NAME}.top", f"{self.top} is no place", "use 10 or so")
        item = self._item(schema)
        require_name(item, self.key, f"{NAME}.key")
        for one in self.features:
            if not isinstance(one, _OWN) or isinstance(one, Derived):
                raise PipelineError(
                    f"{NAME}.features",
                    f"{one!r} is no feature of a candidate alone",
                    "use Column, OneHot, Bucket or Transform; windows are of requests",
                )
            one.validate(item)
        if len(set(self.feature_names)) < len(self.feature_names):
            raise PipelineError(f"{NAME}.features", "have one name twice", "name one differently")

    def read(self, values: Values) -> Read:
        """[n, most, 1 + features], and what is wrong with requests."""
        found = np.zeros((len(values), *self.tensor.shape), np.float32)
        bad = {row: said for row, one in enumerate(values) if (said := self._wrong(one))}
        good = [row for row in range(len(values)) if row not in bad]
        counts = [len(values[row]) for row in good]
        flat = list(chain.from_iterable(values[row] for row in good))
        rows = np.repeat(np.array(good, np.int64), counts)
        places = np.fromiter(chain.from_iterable(map(range, counts)), np.int64, len(flat))
        found[rows, places, 0] = 1.0
        if flat and self.features:
            columns = self._columns(flat)
            with np.errstate(over="ignore"):  # what float32 cannot hold is not finite
                blocks = [one.compute(columns) for one in self.features]
                computed = np.concatenate(blocks, axis=1).astype(np.float32)
            found[rows, places, 1:] = computed
            for row in np.unique(rows[~np.isfinite(computed).all(axis=1)]).tolist():
                found[row], bad[row] = 0.0, "a candidate has a feature that is no finite float32"
        return found, bad

    def ids(self, value: Sequence[Any]) -> list[str]:
        """The ids of a request's candidates, in its order."""
        kinds = set(map(type, value))
        if kinds == {str}:
            return list(value)
        if kinds == {int}:
            return list(map(str, value))
        return [spelt(getattr(one, self.key)) for one in value]

    def sample(self, random: np.random.Generator) -> Any:
        """Some small ids, as texts."""
        few = int(random.integers(2, self.most + 1))
        return [str(1 + one) for one in random.choice(10 * self.most, few, False)]

    def probes(self, count: int, random: np.random.Generator) -> NDArray[np.float32]:
        """Tensors [count, most, 1 + features] such as requests may have."""
        found = random.normal(size=(count, *self.tensor.shape))
        start = 1
        for one in self.features:
            places = (count, self.most, len(one.names))
            if isinstance(one, Bucket):
                found[..., start : start + 1] = random.integers(0, one.buckets, places)
            elif isinstance(one, OneHot):
                found[..., start : start + places[2]] = np.eye(places[2])[
                    random.integers(0, places[2], places[:2])
                ]
            start += places[2]
        counts = random.integers(1, self.most + 1, count)
        found[..., 0] = 1.0
        found[np.arange(self.most) >= counts[:, None]] = 0.0
        return found.astype(np.float32)

    def listed(self, schema: type[BaseModel]) -> Any:
        """The type of what the field lists; None where it is no list."""
        found = base_type(schema, self.field)
        return typing.get_args(found)[0] if typing.get_origin(found) is list else None

    def _wrong(self, value: Any) -> str:
        if not isinstance(value, list) or not value:
            return "has no candidates"
        if len(value) > self.most:
            return f"has {len(value)} candidates, more than {self.most}"
        return "" if len(set(self.ids(value))) == len(value) else "has a candidate twice"

    def _item(self, schema: type[BaseModel]) -> type[BaseModel]:
        """The schema of a candidate. Raises `PipelineError`."""
        listed = self.listed(schema)
        if isinstance(listed, type) and issubclass(listed, BaseModel):
            return listed
        if listed not in (str, int):
            raise PipelineError(
                f"{NAME}.field",
                f"field {self.field!r} is no list of ids or of models",
                "declare it as list[str], list[int], or list[Item] of a pydantic model",
            )
        fields: dict[str, Any] = {self.key: (listed, ...)}
        made: type[BaseModel] = create_model("Candidate", **fields)
        return made

    def _columns(self, flat: list[Any]) -> dict[str, NDArray[Any]]:
        """The fields of candidates by name."""
        [first, *_] = flat
        if not isinstance(first, BaseModel):
            return {self.key: _column(flat, isinstance(first, int))}
        schema = type(first)
        return {
            name: _column(list(map(attrgetter(name), flat)), numeric(schema, name))
            for name in schema.model_fields
        }


def _column(values: list[Any], number: bool) -> NDArray[Any]:
    if number:
        return numbers(values)
    return np.fromiter(map(plain, values), object, len(values))


def padded(parts: Sequence[Any], most: int, absent: float) -> NDArray[np.float32]:
    """Numbers of each request's candidates as [n, most], with `absent` after the last."""
    rows = [[*one[:most], *repeat(absent, most - len(one))] for one in parts]
    return np.array(rows, np.float32).reshape(-1, most)
