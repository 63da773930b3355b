"""What columns mean: each by itself, whatever stands beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streams.errors import PipelineError
from streams.spec import (
    Array,
    Bucket,
    Cleaning,
    Clip,
    Column,
    Count,
    Derived,
    LabelRate,
    Mean,
    OneHot,
    Transform,
)
from streams.spec.events import Columns
from tests.unit.pipelines import declare

FEATURES = declare().features


def large(columns: Columns) -> Any:
    return columns["amount"] > 100


def larger(columns: Columns) -> Any:
    return columns["amount"] > 1000


def ratio(of: Any) -> Any:
    return of["amount"] / np.maximum(of["shopper_mean_amount_1h"], 1)


def meanings(*features: Any, **changes: Any) -> dict[str, str]:
    return declare(features=features, **changes).column_meanings


def test_what_comes_and_goes_changes_the_meaning_of_no_other_column() -> None:
    before = declare().column_meanings
    assert list(before) == list(declare().feature_names)
    assert len(set(before.values())) == len(before)
    more = meanings(Transform("large", large), *reversed(FEATURES), Count(key="shopper", over="7d"))
    assert before.items() < more.items()
    fewer = meanings(*FEATURES[2:])
    assert fewer.items() < before.items()


def test_a_further_category_leaves_the_others_as_they_were() -> None:
    two, three = OneHot("channel", ("web", "app")), OneHot("channel", ("shop", "web", "app"))
    assert meanings(two).items() < meanings(three).items()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Transform("large", large), Transform("large", larger)),
        (Count(key="shopper", over="1h", name="n"), Count(key="shopper", over="2h", name="n")),
        (Count(key="shopper", over="1h", name="n"), Count(key="order_id", over="1h", name="n")),
        (
            Mean(key="shopper", over="1h", field="amount", name="n"),
            Mean(key="shopper", over="1h", field="basket", name="n"),
        ),
        (
            LabelRate(key="shopper", over="1d", delay="1h", name="n"),
            LabelRate(key="shopper", over="1d", delay="1h", name="n", smooth=(0.1, 20)),
        ),
    ],
)
def test_what_computes_another_number_means_something_else(one: Any, other: Any) -> None:
    cleaning = Cleaning(missing={"channel": "web", "basket": 0})
    [before], [after] = (meanings(x, cleaning=cleaning).values() for x in (one, other))
    assert before != after


def test_scaling_is_the_models_affair() -> None:
    scaled, plain = Column("amount"), Column("amount", normalise=False)
    assert meanings(scaled) == meanings(plain)


def test_how_a_field_is_cleaned_is_part_of_what_reads_it() -> None:
    clipped = Cleaning(missing={"channel": "web"}, outliers={"amount": Clip(0, 9)}, duplicates="1h")
    features = (*FEATURES, Transform("large", large), Bucket("shopper", 64))
    before, after = meanings(*features), meanings(*features, cleaning=clipped)
    changed = {name for name in before if before[name] != after[name]}
    # a transform may read any field
    assert changed == {"amount", "large", "shopper_mean_amount_1h"}


def test_repeated_events_are_an_affair_of_windows() -> None:
    short = Cleaning(
        missing={"channel": "web"}, outliers={"amount": Clip(0, 1000)}, duplicates="2h"
    )
    before, after = declare().column_meanings, declare(cleaning=short).column_meanings
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"shopper_count_1h", "shopper_mean_amount_1h", "refund_rate"}


def test_what_is_derived_means_what_its_parts_do() -> None:
    derived = Derived("ratio", of=("amount", "shopper_mean_amount_1h"), function=ratio)
    before = meanings(derived, *FEATURES)
    clipped = Cleaning(missing={"channel": "web"}, outliers={"amount": Clip(0, 9)}, duplicates="1h")
    after = meanings(derived, *FEATURES, cleaning=clipped)
    assert before["ratio"] != after["ratio"]
    assert before["ratio"] == meanings(*FEATURES, derived)["ratio"]


def test_inputs_have_meanings_of_their_own() -> None:
    one, two = Array("basket", "basket", (2,)), Array("basket", "basket", (3,))
    cleaning = Cleaning(missing={"basket": 0, "channel": "web"})
    first, second = (declare(inputs=[x], cleaning=cleaning).input_meanings for x in (one, two))
    assert list(first) == list(second) == ["basket"]
    assert first != second


def test_what_retires_stands_last_and_is_not_learned() -> None:
    kept, gone = FEATURES[1:], FEATURES[:1]
    pipeline = declare(features=kept, retiring=gone)
    assert pipeline.feature_names == (*declare(features=kept).feature_names, "amount")
    assert pipeline.learned.feature_names == declare(features=kept).feature_names
    assert pipeline.column_meanings == declare().column_meanings  # in another order
    assert pipeline.schema_hash == declare(features=[*kept, *gone]).schema_hash
    assert (whole := declare()).learned is whole


def test_nothing_that_stays_is_derived_from_what_goes() -> None:
    derived = Derived("double", of=("amount",), function=ratio)
    with pytest.raises(PipelineError, match=r"features\.double\.of"):
        declare(features=[*FEATURES[1:], derived], retiring=[FEATURES[0]])
    declare(features=FEATURES, retiring=[derived])
