"""What a change of a pipeline's file is said to do, held against what the ledger says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from streams.ledger.state import LedgerState
from streams.spec import Cleaning, Clip, Column, Gate, Model, Pipeline, Policies
from tests.models import manifest
from tests.unit.pipelines import declare
from workers.releases.changing import Change

FEATURES = declare().features
LONGER = Column("at")


def now(*versions: Pipeline, **fields: Any) -> LedgerState:
    """Each was promoted after the one before it."""
    made = {n: manifest(one, n, b"", **fields) for n, one in enumerate(versions, 1)}
    numbers = tuple(made)
    return LedgerState(champion=len(made), promoted=numbers, versions=made)


def said(pipeline: Pipeline, state: LedgerState) -> str:
    return "\n".join(Change.of(pipeline, state).lines(pipeline))


def test_a_feature_that_comes_leaves_the_champion_where_it_is() -> None:
    after = declare(features=[LONGER, *FEATURES])
    change = Change.of(after, now(declare()))
    assert not change.falls_back
    assert change.features.added == ["at"]
    assert not change.features.removed + change.features.changed
    assert not change.learns_from_earlier
    lines = said(after, now(declare()))
    assert "version 1 (the champion) goes on serving" in lines
    assert "only from events that come after the change" in lines


def test_a_feature_that_goes_at_once_means_the_fallback() -> None:
    after = declare(features=FEATURES[1:])
    change = Change.of(after, now(declare()))
    assert change.falls_back
    assert change.serves == {1: ["amount"]}
    first, *_ = change.lines(after)
    assert first.startswith("EVERY EVENT WOULD BE SERVED THE FALLBACK")
    assert "retiring" in first


def test_what_retires_may_go_once_no_version_needs_it() -> None:
    after = declare(features=FEATURES[1:], retiring=FEATURES[:1])
    change = Change.of(after, now(declare()))
    assert not change.falls_back
    assert change.retiring == {"amount": [1]}
    assert change.learns_from_earlier
    assert "needed by version 1" in said(after, now(declare()))
    # the version before stays loaded, ready for a rollback
    assert Change.of(after, now(declare(), after)).retiring == {"amount": [1]}
    assert Change.of(after, now(declare(), after, after)).retiring == {"amount": []}
    assert "you may delete it" in said(after, now(declare(), after, after))
    gone = Change.of(after.learned, now(declare(), after, after))
    assert not gone.falls_back
    assert "cannot serve any more" in said(after.learned, now(declare(), after))
    assert not Change.of(after.learned, now(declare(), after)).falls_back


def test_a_feature_that_is_cleaned_otherwise_is_another() -> None:
    clipped = Cleaning(missing={"channel": "web"}, outliers={"amount": Clip(0, 9)}, duplicates="1h")
    change = Change.of(declare(cleaning=clipped), now(declare()))
    assert change.falls_back
    assert change.features.changed == ["amount", "shopper_mean_amount_1h"]


def test_an_older_champion_serves_its_own_schema_alone() -> None:
    older = now(declare(), columns={}, policies={})
    assert not Change.of(declare(), older).falls_back
    change = Change.of(declare(features=[LONGER, *FEATURES]), older)
    assert change.falls_back
    assert (change.features.added, change.policies) == (["at"], {})


def test_without_a_champion_nothing_can_fall_back() -> None:
    change = Change.of(declare(), LedgerState())
    assert not change.falls_back
    assert change.lines(declare()) == [
        "no version serves yet: the fallback does, until the first one is made"
    ]


@pytest.mark.parametrize("changed", [True, False])
def test_policies_and_parameters_that_change_are_told(changed: bool) -> None:
    before = declare()
    trained = now(before, parameters=before.model.training())
    model = Model(network=before.model.network, parameters={"epochs": 99} if changed else {})
    policies = Policies(gate=Gate(margin=0.2)) if changed else Policies()
    after = replace(before, model=model, policies=policies)
    change = Change.of(after, trained)
    assert change.parameters == ({"epochs": ["20", "99"]} if changed else {})
    assert change.policies == ({"policies.gate.margin": ["0.05", "0.2"]} if changed else {})
    lines = said(after, trained)
    assert ("model.epochs: 20 -> 99" in lines) == changed
    assert "the same features as the champion" in lines
