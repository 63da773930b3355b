"""Sample events made from a pipeline's schema, for `driftloop check` and for tests.

They look like the field's as far as its name, its type and the pipeline tell: categories that the
pipeline knows, amounts that people pay, few entities with many events each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence, Set
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from random import Random
from typing import Any
from uuid import UUID

import numpy as np
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from streams.errors import ConfigurationError, PipelineError
from streams.spec import CountDistinct, OneHot, Pipeline
from streams.spec.fields import base_type, json_name, numeric, optional, plain
from streams.spec.inputs import Input
from streams.spec.loading import explained
from streams.spec.sequences import LastN

_START = datetime(2024, 1, 1, tzinfo=UTC)
_ATTEMPTS = 40
"""Tries to make an event that the schema's own validators let pass."""
_PATIENCE = 8
"""Tries of one way to make a field: some of its values may pass."""
_NULLS = 0.05
_DISTINCT = 20
"""Values of a category of which a feature counts how many there are."""

Make = Callable[[int], Any]
"""The value of a field in the n-th event, as JSON has it."""

_TEXTS: Mapping[str, tuple[str, ...]] = {
    "currency": ("EUR", "USD", "GBP", "JPY"),
    "country": ("DE", "US", "FR", "GB", "JP"),
    "language|locale": ("en", "de", "fr"),
    "e_?mail": ("ann@example.com", "bob@example.com"),
    "phone": ("+12025550123", "+442079460958"),
    "url|link": ("https://example.com/a", "https://example.com/b"),
    "ip": ("192.0.2.7", "198.51.100.9"),
    "city": ("Berlin", "Paris", "Austin"),
    "channel": ("web", "app", "store"),
    "status": ("new", "open", "done"),
}
"""By what a field's name has in it."""


def sample_events(pipeline: Pipeline, count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Valid events as JSON has them, one a minute, over a tenth as many entities.

    The same for the same seed.

    Raises:
        PipelineError: the schema's own validators let no event pass that is made without knowing
            them.
    """
    sampler = _Sampler(pipeline, count, seed)
    return [sampler.event(number) for number in range(count)]


class _Sampler:
    """Makes events; of each field it tries one way after the other until the schema accepts it."""

    def __init__(self, pipeline: Pipeline, count: int, seed: int) -> None:
        # costs a tenth of a worker's start, and only samples need it
        from polyfactory.factories.pydantic_factory import ModelFactory

        self._pipeline = pipeline
        self._schema = pipeline.event.schema
        self._random = Random(seed)  # noqa: S311 - not a secret
        self._entities = 1 + count // 10
        self._factory = ModelFactory.create_factory(self._schema, __random_seed__=seed)
        self._counted = {
            window.field for window in pipeline.windows if isinstance(window, CountDistinct)
        }
        self._names = {name: json_name(self._schema, name) for name in self._schema.model_fields}
        self._ways = {name: self._ways_of(name) for name in self._schema.model_fields}
        """The rest of the ways to make a field's value, the best first; none: by its type."""

    def event(self, number: int) -> dict[str, Any]:
        """The n-th event. Raises `PipelineError`, or `ConfigurationError`."""
        sample, first, failed = self._fresh(number), "", None
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._schema.model_validate_json(json.dumps(sample))
            except ValidationError as error:
                found = error.errors(include_url=False, include_input=False)
                first = first or f"{'.'.join(map(str, found[0]['loc']))}: {found[0]['msg']}"
                refused = {str(one["loc"][0]) for one in found if one["loc"]}
                if attempt % _PATIENCE == 0:
                    self._give_up(refused)
                sample = self._again(number, sample, refused)
            except Exception as error:  # of a validator, which should raise ValueError
                failed = failed or explained(error)
                sample = self._again(number, sample, set())
            else:
                return sample
        if failed and not first:
            raise ConfigurationError(f"a validator of {self._schema.__name__} fails: {failed}")
        raise _none_made(first)

    def _fresh(self, number: int) -> dict[str, Any]:
        sample = self._by_type()
        for name, ways in self._ways.items():
            if ways:
                sample[self._names[name]] = ways[0](number)
        return sample

    def _again(self, number: int, sample: dict[str, Any], refused: Set[str]) -> dict[str, Any]:
        """With another value for fields that were refused; all anew where no field is named."""
        by_type = self._by_type()
        for name, spelt in self._names.items():
            if refused and spelt not in refused:
                continue
            if ways := self._ways[name]:
                sample[spelt] = ways[0](number)
            elif spelt in by_type:
                sample[spelt] = by_type[spelt]
        return sample

    def _give_up(self, refused: Set[str]) -> None:
        """Go on to the next way to make each of these fields."""
        for name, spelt in self._names.items():
            if spelt in refused and self._ways[name]:
                self._ways[name].pop(0)

    def _by_type(self) -> dict[str, Any]:
        """An event of which only the types are right, by the names in JSON."""
        try:
            built = self._factory.build(factory_use_construct=True)
        except Exception as error:  # a type that it does not know, constraints that exclude all
            raise _none_made(str(error)) from None
        try:
            dumped = built.model_dump(mode="json", by_alias=True, round_trip=True, warnings=False)
        except PydanticSerializationError:  # a type that is not built as itself, such as a secret
            dumped = to_jsonable_python(vars(built), fallback=str)
        fields = self._schema.model_fields
        keys = {n: one.serialization_alias or one.alias or n for n, one in fields.items()}
        return {self._names[n]: dumped[key] for n, key in keys.items() if key in dumped}

    def _ways_of(self, name: str) -> list[Make]:
        event, windows = self._pipeline.event, self._pipeline.plan.keys
        if name == event.time:
            return self._times(name)
        if name == event.id:
            return self._named(name, lambda number: number)
        if name in {plan.key for plan in windows} and not self._known(name):
            return self._named(name, lambda _: self._random.randrange(self._entities))
        for one in self._pipeline.all_inputs:
            if not isinstance(one, LastN) and one.field == name:
                noise = np.random.default_rng(self._random.randrange(1 << 32))
                return [partial(_noise, one, noise)]
        made = self._known(name) or self._plausible(name)
        if not made and name in self._counted:
            made = self._named(name, lambda _: self._random.randrange(_DISTINCT))
        if made and optional(self._schema, name) and name in self._pipeline.cleaning.missing:
            [way] = made
            return [lambda n: None if self._random.random() < _NULLS else way(n)]
        return made

    def _known(self, name: str) -> list[Make]:
        """Categories that a feature names."""
        for feature in self._pipeline.computed:
            if isinstance(feature, OneHot) and feature.field == name:
                return [self._one_of([plain(value) for value in feature.values])]
        return []

    def _one_of(self, values: Sequence[Any]) -> Make:
        return lambda _: self._random.choice(values)

    def _named(self, name: str, number_of: Callable[[int], int]) -> list[Make]:
        """Names of events or entities, told apart by a number."""
        kind = base_type(self._schema, name)
        if kind is str:
            return [lambda n: f"{name}-{number_of(n)}"]
        if kind is int:
            return [lambda n: number_of(n) + 1]
        if kind is UUID:
            return [lambda n: str(UUID(int=number_of(n) + 1))]
        return []

    def _times(self, name: str) -> list[Make]:
        earliest = self._pipeline.cleaning.earliest
        start = max(_START, earliest.replace(tzinfo=earliest.tzinfo or UTC) + timedelta(days=1))

        def at(number: int) -> datetime:
            return start + timedelta(minutes=number)

        if numeric(self._schema, name):
            return [lambda n: int(at(n).timestamp())]
        return [lambda n: at(n).isoformat(), lambda n: at(n).replace(tzinfo=None).isoformat()]

    def _plausible(self, name: str) -> list[Make]:
        """Values such as a field of this name has."""
        kind, random = base_type(self._schema, name), self._random
        if kind is str:
            for words, texts in _TEXTS.items():
                if re.search(rf"(?:^|_)(?:{words})(?:$|_)", name.lower()):
                    return [self._one_of(texts)]
        if not numeric(self._schema, name) or kind is bool or not isinstance(kind, type):
            return []
        whole, exact = issubclass(kind, int), issubclass(kind, Decimal)
        if re.search("amount|price|cost|total|fee|value|balance", name.lower()):
            return [lambda _: round(random.lognormvariate(3.2, 1.0), 0 if whole else 2)]
        if re.search("count|quantity|qty|items|number", name.lower()):
            return [lambda _: 1 + int(random.expovariate(0.5))]
        if re.search("ratio|rate|score|share|probability", name.lower()) and not whole:
            return [lambda _: round(random.random(), 3)]
        return [lambda _: round(random.lognormvariate(3.2, 1.0), 2)] if exact else []


def _noise(made: Input, random: np.random.Generator, number: int) -> Any:
    del number
    return made.sample(random)


def _none_made(why: str) -> PipelineError:
    return PipelineError(
        "event.schema",
        f"no sample event can be made for it ({why})",
        "give events of your own: --events FILE, one JSON object a line",
    )
