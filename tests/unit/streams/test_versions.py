"""What versions take of rows, and which logged rows can be read as the pipeline's."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from streams.errors import ModelError
from streams.records import Manifest
from streams.spec import Array, Cleaning, Column, Pipeline
from streams.spec.layout import Layout, features_of
from streams.versions import (
    Logged,
    Picks,
    earlier_rows,
    fits,
    is_model_of,
    lacks,
    learned,
    model_named,
    pick,
)
from tests.models import manifest
from tests.unit.pipelines import declare

FEATURES = declare().features
CLEANING = Cleaning(missing={"channel": "web", "basket": 0})


def version(pipeline: Pipeline, **fields: Any) -> Manifest:
    return manifest(pipeline, 1, b"", **fields)


def numbered(pipeline: Pipeline) -> Any:
    """Two rows, whose features say where in the row they stand."""
    width = len(pipeline.feature_names)
    features = np.arange(2 * width, dtype=np.float32).reshape(2, width)
    inputs = {one.name: np.full((2, *one.tensor.shape), 7) for one in pipeline.inputs}
    return pipeline.layout.rows(features, inputs)


def test_a_version_takes_its_own_columns_wherever_they_stand() -> None:
    before = declare()
    after = declare(features=[Column("at"), *reversed(FEATURES)])
    taken, rows = pick(after, version(before)), numbered(after)
    assert taken.layout == before.layout
    wanted = [after.feature_names.index(name) for name in before.feature_names]
    assert taken.of(rows).tolist() == rows[:, wanted].tolist()
    assert taken.of(rows).flags.c_contiguous
    assert taken.of(rows[:0]).shape == (0, len(wanted))


def test_rows_that_are_the_versions_own_are_taken_as_they_are() -> None:
    rows = numbered(declare())
    assert pick(declare(), version(declare())).of(rows) is rows


def test_a_version_without_inputs_takes_the_features_of_rows_with_them() -> None:
    image = Array("basket", "basket", (3,))
    before, after = declare(cleaning=CLEANING), declare(cleaning=CLEANING, inputs=[image])
    rows = numbered(after)
    assert pick(after, version(before)).of(rows).tolist() == features_of(rows).tolist()
    more = declare(cleaning=CLEANING, inputs=[image], features=[Column("at"), *FEATURES])
    taken = pick(more, version(after)).of(numbered(more))
    assert taken.dtype == after.layout.dtype
    assert (taken["basket"] == 7).all()
    assert taken["features"].tolist() == numbered(more)["features"][:, 1:].tolist()


def test_a_version_that_lacks_something_is_told_what() -> None:
    after = declare(features=FEATURES[1:], cleaning=CLEANING)
    assert lacks(after, version(declare()))[0] == "amount"
    assert not fits(after, version(declare()))
    with pytest.raises(ModelError, match="amount"):
        pick(after, version(declare()))
    assert fits(after, None)
    picks = Picks(after, lambda number: version(declare()) if number == 1 else None)
    with pytest.raises(ModelError, match="amount"):
        picks.of(1)
    assert picks.of(2).of(rows := numbered(after)) is rows


def test_an_older_manifest_fits_the_whole_schema_or_not_at_all() -> None:
    older = version(declare(), columns={}, inputs={})
    assert lacks(declare(), older) == []
    rows = numbered(declare())
    assert pick(declare(), older).of(rows) is rows
    assert lacks(declare(features=FEATURES[1:]), older) == ["amount"]
    assert lacks(declare(features=[*FEATURES, Column("at")]), older)


def test_new_versions_take_what_stays() -> None:
    pipeline = declare(features=FEATURES[1:], retiring=FEATURES[:1])
    assert learned(pipeline).of(rows := numbered(pipeline)).tolist() == rows[:, :-1].tolist()
    made = version(pipeline)
    assert made.feature_names == list(pipeline.learned.feature_names)
    assert list(made.columns) == made.feature_names
    assert made.row == pipeline.column_meanings
    # it is served still when what retires has gone, and the version before it is not
    assert fits(pipeline.learned, made)
    assert not fits(pipeline.learned, version(declare()))


def test_rows_that_hold_more_are_read_as_the_pipelines_own() -> None:
    before, after = declare(), declare(features=list(reversed(FEATURES[1:])))
    made, rows = version(before), numbered(before)
    logged = Logged(after, earlier_rows(after, [made]))
    [one, two] = before.layout.pack(rows)
    assert logged.readable(before.schema_hash, one)
    assert not logged.readable(before.schema_hash, one[:-4])
    assert not logged.readable("unknown", one)
    own = after.layout.pack(numbered(after))[0]
    found = logged.rows(
        [(before.schema_hash, one), (after.schema_hash, own), (before.schema_hash, two), ("", own)]
    )
    wanted = [before.feature_names.index(name) for name in after.feature_names]
    assert found[[0, 2]].tolist() == rows[:, wanted].tolist()
    assert found[1].tolist() == found[3].tolist() == numbered(after)[0].tolist()


def test_rows_that_lack_a_column_are_not_read() -> None:
    before, after = declare(), declare(features=[*FEATURES, Column("at")])
    assert earlier_rows(after, [version(before)]) == ()
    older = version(before, columns={}, inputs={})
    assert earlier_rows(declare(features=FEATURES[1:]), [older]) == ()


def test_what_a_version_that_retired_columns_was_made_from_is_known() -> None:
    before = declare(features=FEATURES[1:], retiring=FEATURES[:1])
    after = before.learned
    [known] = earlier_rows(after, [version(before)])
    packed = before.layout.pack(numbered(before))
    found = Logged(after, [known]).rows([(before.schema_hash, one) for one in packed])
    assert found.tolist() == numbered(before)[:, :-1].tolist()


def test_models_are_told_apart_by_the_shape_of_rows() -> None:
    two, three = (model_named("orders", Layout.of(n)) for n in (2, 3))
    assert two != three
    assert all(is_model_of("orders", name) for name in ("orders", two, three))
    assert not is_model_of("orders", "orders-20261128")
    assert not is_model_of("orders", "orders_2026")
    assert not is_model_of("order", two)


def test_a_manifest_of_before_is_read() -> None:
    older = msgspec.json.decode(msgspec.json.encode(version(declare())))
    for name in ("columns", "inputs", "row", "model"):
        del older[name]
    read = msgspec.json.decode(msgspec.json.encode(older), type=Manifest)
    assert (read.columns, read.model) == ({}, "")
