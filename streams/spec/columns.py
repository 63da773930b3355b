"""What each column of a vector means, by itself: a version needs its own columns and no others.

A meaning is a hash of the declaration, of what its function computes, and of how the fields that
it reads are cleaned. It does not change when another feature comes or goes, and neither where the
column stands nor whether training scales it is part of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from streams.spec.aggregates import Window
from streams.spec.derived import Derived
from streams.spec.events import Cleaning, Event
from streams.spec.features import Feature, OneHot, Transform
from streams.spec.fields import plain
from streams.spec.inputs import Input
from streams.spec.meaning import meaning
from streams.spec.sequences import LastN
from streams.spec.windows import FoldPlan, revisions


def column_meanings(
    features: Sequence[Feature], event: Event, cleaning: Cleaning
) -> dict[str, str]:
    """The meaning of each column by its name, in the vector's order."""
    found: dict[str, str] = {}
    for feature in sorted(features, key=lambda one: isinstance(one, Derived)):
        for name, said in zip(feature.names, _said(feature, event, found), strict=True):
            found[name] = _digest([type(feature).__name__, said, _cleaned(feature, cleaning)])
    return {name: found[name] for feature in features for name in feature.names}


def input_meanings(
    inputs: Iterable[Input | LastN], event: Event, cleaning: Cleaning
) -> dict[str, str]:
    """The meaning of each input by its name, in the row's order."""
    found = {}
    for one in inputs:
        cleaned = _of_fields([one.field], cleaning)
        if isinstance(one, LastN):  # made of windows
            cleaned = [*_cleaned(one.windows[0], cleaning), event.time]
        found[one.name] = _digest([list(one.tensor), one.meaning, cleaned])
    return found


def row_meaning(
    features: Sequence[Feature],
    windows: Sequence[Window],
    plan: FoldPlan,
    cleaning: Cleaning,
    inputs: Sequence[Input | LastN],
) -> str:
    """What rows mean as a whole, in 16 digits: `Pipeline.schema_hash`.

    It covers what features there are, what transforms compute, and how fields are cleaned.
    """
    names = [name for feature in features for name in feature.names]
    normalised = [bool(feature.normalise) for feature in features for _ in feature.names]
    keys = [[k.key, k.edges, k.values, k.labels, k.windows] for k in plan.keys]
    stateless = [
        [f"{type(feature).__name__}{getattr(feature, 'revision', '')}", meaning(vars(feature))]
        for feature in features
        if not isinstance(feature, Window)
    ]
    cleaned = meaning(
        [
            dict(sorted(cleaning.missing.items())),
            {name: vars(clip) for name, clip in sorted(cleaning.outliers.items())},
            cleaning.duplicates_seconds,
        ]
    )
    said: list[Any] = [names, normalised, keys, stateless, cleaned]
    if found := revisions(windows):
        said.append(found)
    if inputs:
        said.append([[list(one.tensor), one.meaning] for one in inputs])
    return hashlib.sha256(json.dumps(said).encode(errors="replace")).hexdigest()[:16]


def _said(feature: Feature, event: Event, known: Mapping[str, str]) -> Sequence[Any]:
    """What a declaration says of each of its columns."""
    match feature:
        case Window():
            ages = [feature.newest, feature.oldest, feature.empty]
            more = [getattr(feature, name, None) for name in ("back", "class_", "smooth")]
            return [[feature.key, event.time, feature.of, ages, meaning(more)]]
        case Derived():
            parts = [[name, known[name]] for name in feature.of]
            return [[parts, meaning(feature.function)]]
        case OneHot():  # each value is a column of its own
            return [[feature.field, meaning(plain(value))] for value in feature.values]
        case Transform():
            return [[meaning(feature.function)]]
        case _:
            held = {name: value for name, value in vars(feature).items() if name != "normalise"}
            return [[getattr(feature, "revision", 0), meaning(held)]]


def _cleaned(feature: Feature, cleaning: Cleaning) -> Any:
    """How what a feature reads is cleaned; a transform may read any field."""
    match feature:
        case Window():
            fields = [feature.key, feature.of]
            return [*_of_fields(fields, cleaning), cleaning.duplicates_seconds]
        case Derived():
            return []
        case Transform():
            return _of_fields([*cleaning.missing, *cleaning.outliers], cleaning)
        case _:
            return _of_fields([feature.field], cleaning)


def _of_fields(fields: Iterable[str], cleaning: Cleaning) -> list[str]:
    clips = {name: vars(clip) for name, clip in cleaning.outliers.items()}
    parts = [[name, cleaning.missing.get(name), clips.get(name)] for name in sorted(set(fields))]
    return [meaning(part) for part in parts if part[1:] != [None, None]]


def _digest(said: Any) -> str:
    return hashlib.sha256(json.dumps(said).encode(errors="replace")).hexdigest()[:12]
