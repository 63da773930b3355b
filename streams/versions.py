"""What versions take of a pipeline's rows: each picks the columns and inputs it was trained on.

A pipeline changes while it serves. Its rows hold what all living versions need, and a version is
served for as long as each column that it takes is among them, with the same meaning.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.errors import ModelError
from streams.records import Manifest
from streams.spec import Pipeline
from streams.spec.layout import Layout, Rows, features_of

Known = Callable[[int], Manifest | None]
"""A version's manifest; None of one that nobody knows."""


@dataclass(frozen=True)
class Pick:
    """What is taken of rows of one kind, to make rows of another."""

    layout: Layout
    """Of the rows that are made."""
    columns: NDArray[np.intp] | None = None
    """Which features; None for rows that are taken as they are."""

    def of(self, rows: Rows) -> Rows:
        """The rows that are made of these, [n]."""
        if self.columns is None:
            return rows
        features = np.ascontiguousarray(features_of(rows)[:, self.columns])
        inputs = {} if rows.dtype.names is None else {n: rows[n] for n in rows.dtype.names}
        return self.layout.rows(features, inputs)


class Picks:
    """What each version takes of a pipeline's rows, by the manifests that are known."""

    def __init__(self, pipeline: Pipeline, known: Known = lambda version: None) -> None:
        self._pipeline = pipeline
        self._known = known
        self._whole = Pick(pipeline.layout)
        self._made: dict[int, tuple[Manifest, Pick]] = {}

    def of(self, version: int) -> Pick:
        """What a version takes; all of a row where nobody knows the version.

        Raises:
            ModelError: the pipeline does not make what it takes.
        """
        if (manifest := self._known(version)) is None:
            return self._whole
        said, made = self._made.get(version, (None, self._whole))
        if said is not manifest:
            made = pick(self._pipeline, manifest)
            self._made[version] = manifest, made
        return made

    def model(self, version: int) -> str:
        """A version's model in Triton."""
        return model_of(self._pipeline.name, self._known(version))


def model_of(pipeline: str, manifest: Manifest | None) -> str:
    """The model in Triton of a pipeline's version: that of the pipeline's name, or another.

    Triton knows one shape of rows for a model, so versions that take other ones have another.
    """
    return (manifest.model if manifest else "") or pipeline


def is_model_of(pipeline: str, model: str) -> bool:
    """Whether a model of Triton's is one of the pipeline's."""
    return (
        model == pipeline
        or re.fullmatch(rf"{re.escape(pipeline)}_[0-9a-f]{{8}}", model) is not None
    )


def model_named(pipeline: str, layout: Layout) -> str:
    """The name of a pipeline's further model, for versions that take rows of this layout.

    No pipeline's name has the underscore, so that no other pipeline's model is called so.
    """
    said = repr([tuple(one) for one in layout.tensors])
    return f"{pipeline}_{hashlib.sha256(said.encode()).hexdigest()[:8]}"


def pick(pipeline: Pipeline, manifest: Manifest) -> Pick:
    """What a version takes of a pipeline's rows.

    Raises:
        ModelError: the pipeline does not make what it takes.
    """
    if lacking := lacks(pipeline, manifest):
        raise ModelError(
            f"version {manifest.version} was trained on other features than {pipeline.name} makes: "
            + ", ".join(lacking)
        )
    if not named(manifest):
        return Pick(pipeline.layout)
    return _picked(pipeline, list(manifest.columns), list(manifest.inputs))


def lacks(pipeline: Pipeline, manifest: Manifest) -> list[str]:
    """What a version takes and the pipeline does not make, or makes differently; none: it fits.

    Of an older manifest, which says what columns are called and not what they mean, the pipeline
    as a whole must mean the same.
    """
    if named(manifest):
        return [
            *_missing(manifest.columns, pipeline.column_meanings),
            *_missing(manifest.inputs, pipeline.input_meanings),
        ]
    if manifest.schema_hash == pipeline.schema_hash:
        return []
    gone = [name for name in manifest.feature_names if name not in pipeline.feature_names]
    return gone or [f"schema {manifest.schema_hash}, not {pipeline.schema_hash}"]


def fits(pipeline: Pipeline, manifest: Manifest | None) -> bool:
    """Whether a version can be served; one that nobody knows may be."""
    return manifest is None or not lacks(pipeline, manifest)


def named(manifest: Manifest) -> bool:
    """Whether the manifest says what the version's columns mean: older ones do not."""
    return bool(manifest.columns or manifest.inputs)


class Logged:
    """Which logged rows can be read as rows of the pipeline: its own, and larger ones."""

    def __init__(self, pipeline: Pipeline, manifests: Iterable[Manifest] = ()) -> None:
        """`manifests` tell what rows held that were logged before the pipeline changed."""
        own = Pick(pipeline.layout)
        self._own = pipeline.schema_hash
        self._layout = pipeline.layout
        self._picks = {"": (self._layout, own), pipeline.schema_hash: (self._layout, own)}
        for one in manifests:
            if one.schema_hash not in self._picks and (found := _read(pipeline, one)):
                self._picks[one.schema_hash] = found

    @property
    def earlier(self) -> Set[str]:
        """The schemas of rows that are not the pipeline's and can be read all the same."""
        return self._picks.keys() - {"", self._own}

    def readable(self, schema: str, row: bytes) -> bool:
        """Whether a row that was logged under this schema can be read; the size tells of ''."""
        found = self._picks.get(schema)
        return found is not None and len(row) == found[0].size

    def rows(self, logged: Sequence[tuple[str, bytes]]) -> Rows:
        """Rows of the pipeline, of (schema, row) each; all must be `readable`."""
        found = self._layout.zeros(len(logged))
        schemas = np.array([schema for schema, _ in logged], object)
        for schema in dict.fromkeys(schemas.tolist()):
            at = np.flatnonzero(schemas == schema)
            layout, made = self._picks[schema]
            found[at] = made.of(layout.unpack([logged[i][1] for i in at.tolist()]))
        return found


def takes_the_same(pipeline: Pipeline, manifest: Manifest) -> bool:
    """Whether a version was trained as new ones are: on the same columns, in the same order."""
    if manifest.schema_hash == pipeline.learned.schema_hash:
        return True
    alike = list(manifest.columns) == list(pipeline.learned.column_meanings)
    return alike and manifest.schema_hash == pipeline.schema_hash


def learned(pipeline: Pipeline) -> Pick:
    """What new versions take of the pipeline's rows: not what is on its way out."""
    return _picked(pipeline, pipeline.learned.feature_names, list(pipeline.input_meanings))


def earlier_rows(pipeline: Pipeline, manifests: Iterable[Manifest]) -> tuple[Manifest, ...]:
    """One manifest of each earlier schema whose rows can be read as the pipeline's."""
    by_schema = {one.schema_hash: one for one in manifests}
    readable = Logged(pipeline, by_schema.values()).earlier
    return tuple(
        msgspec.structs.replace(by_schema[name], reference=None) for name in sorted(readable)
    )


def _read(pipeline: Pipeline, manifest: Manifest) -> tuple[Layout, Pick] | None:
    """The layout of the rows of a manifest's schema, and how they become the pipeline's."""
    columns, inputs = manifest.row or manifest.columns, manifest.inputs
    if (
        not named(manifest)
        or _missing(pipeline.column_meanings, columns)
        or _missing(pipeline.input_meanings, inputs)
    ):
        return None
    tensors = {one.name: one.tensor for one in pipeline.all_inputs}
    if set(inputs) != set(tensors):  # how large another input is, nobody knows any more
        return None
    order = list(columns)
    places = np.array([order.index(name) for name in pipeline.feature_names], np.intp)
    layout = Layout.of(len(order), [tensors[name] for name in inputs])
    return layout, Pick(pipeline.layout, places)


def _picked(pipeline: Pipeline, columns: Sequence[str], inputs: Sequence[str]) -> Pick:
    if tuple(columns) == pipeline.feature_names and inputs == list(pipeline.input_meanings):
        return Pick(pipeline.layout)
    tensors = {one.name: one.tensor for one in pipeline.all_inputs}
    places = np.array([pipeline.feature_names.index(name) for name in columns], np.intp)
    return Pick(Layout.of(len(columns), [tensors[name] for name in inputs]), places)


def _missing(wanted: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    return [name for name, meaning in wanted.items() if found.get(name) != meaning]
