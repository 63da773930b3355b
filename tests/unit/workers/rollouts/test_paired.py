"""Which records of `P.shadow` are evidence for which stage, and what they come to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka import ConsumerRecord
from structlog.testing import capture_logs

from streams.ledger.state import LedgerState, Stage
from streams.records import Shadowed, encode
from streams.spec import Evaluate, Policies, RollOut, Slices
from tests.models import manifest
from tests.unit.pipelines import declare
from workers.evaluation.sequential import Balance, ConfidenceSequence
from workers.rollouts.paired import LATELY, StageTally, class_shares
from workers.rollouts.shadowed import decode_shadowed

T0 = 1_700_000_000.0
COLUMN = declare().feature_names[0]
SLICE = f"{COLUMN}>0"
PIPELINE = declare(policies=Policies(rollout=RollOut(), evaluate=Evaluate(slices=Slices((SLICE,)))))
MADE = manifest(PIPELINE, 2, b"", counts={"train": [900, 90], "validate": [100, 10]})
STATE = LedgerState(
    champion=1, challenger=2, stage=Stage.SHADOW, since=T0, versions={2: MADE}, length=3
)
CONFIDENCE = PIPELINE.policies.rollout.step_confidence(2)


def shadowed(**changes: Any) -> Shadowed:
    base = Shadowed("e", T0 + 5, 1, 0.2, 2, 0.3, T0, 1, "k", label=1.0, labelled_at=T0 + 9)
    return msgspec.structs.replace(base, **{"origin": "feedback", **changes})


def counted(state: LedgerState, *records: Shadowed) -> int:
    comparison = StageTally(PIPELINE, state)
    comparison.add(records)
    return comparison.evidence(0.0).labelled


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({}, 1),
        ({"origin": "horizon"}, 1),
        ({"event_time": T0 - 5}, 1),
        ({"origin": "correction"}, 0),
        ({"challenger_score": None}, 0),
        ({"label": None}, 0),
        ({"label": 0.5}, 0),
        ({"since": T0 + 1}, 0),
        ({"challenger": 3}, 0),
        ({"champion": 3}, 0),
    ],
)
def test_what_is_evidence(changes: dict[str, Any], counts: int) -> None:
    assert counted(STATE, shadowed(**changes)) == counts


def test_a_new_champion_is_watched_for_what_happens_while_it_serves() -> None:
    watched = replace(STATE, stage=Stage.WATCH, champion=2, previous=1)
    assert counted(watched, shadowed(event_time=T0 - 5), shadowed(event_time=T0)) == 1


def test_the_interval_is_that_of_the_balanced_losses() -> None:
    random = np.random.default_rng(1)
    scores, labels = random.random((2, 500)), (random.random(500) < 0.1).astype(np.float32)
    comparison = StageTally(PIPELINE, STATE)
    records = [
        shadowed(
            champion_score=float(champion),
            challenger_score=float(challenger),
            label=float(label),
            slices=[SLICE] * (number % 2),
        )
        for number, (champion, challenger, label) in enumerate(zip(*scores, labels, strict=True))
    ]
    for start in range(0, 500, 37):
        comparison.add(records[start : start + 37])
    balance = Balance.of([0.9, 0.1])
    worse = balance.losses(scores[1], labels) - balance.losses(scores[0], labels)
    found = comparison.evidence(T0, ("broken",))
    low, high = ConfidenceSequence(CONFIDENCE).update(worse).interval
    assert found.interval == pytest.approx((low / 0.2, high / 0.2))
    low, high = ConfidenceSequence(CONFIDENCE).update(worse[1::2]).interval
    assert found.slices == {SLICE: pytest.approx((low / 0.2, high / 0.2))}
    assert (found.version, found.since, found.labelled) == (2, T0, 500)
    assert (found.latest_label, found.failed) == (T0, ("broken",))


def test_a_slice_with_few_labels_says_nothing() -> None:
    comparison = StageTally(PIPELINE, STATE)
    comparison.add([shadowed(slices=[SLICE])] * 19)
    assert comparison.evidence(0.0).slices == {}


def test_the_newest_events_are_looked_at_together() -> None:
    comparison = StageTally(PIPELINE, STATE)
    for number in range(LATELY + 10):
        comparison.add([shadowed(label=None, champion_score=0.0, challenger_score=number / 5000)])
    comparison.add([shadowed(label=None, challenger_score=None)])
    found = comparison.lately()
    assert found.champion.shape == found.challenger.shape == (LATELY, 1)
    assert found.challenger[0, 0] == pytest.approx(11 / 5000)
    assert np.isnan(found.challenger[-1, 0])


@pytest.mark.parametrize(
    ("counts", "classes", "shares"),
    [
        ({"train": [900, 90], "validate": [100, 10]}, 2, [0.9, 0.1]),
        ({}, 2, None),
        ({"train": [900, 0]}, 2, None),
        ({"train": [900, 90]}, 4, None),
    ],
)
def test_shares_of_the_classes(
    counts: dict[str, list[int]], classes: int, shares: list[float] | None
) -> None:
    assert class_shares(manifest(PIPELINE, 2, b"", counts=counts), classes) == shares
    assert class_shares(None, 2) is None


def test_what_cannot_be_read_is_logged_and_passed_over() -> None:
    values = [encode(shadowed()), b"{no json", None, b"[]", b"[" * 100_000]
    records: list[Any] = [
        ConsumerRecord("p.shadow", 0, at, 0, 0, b"k", value, None, 0, 0, [])
        for at, value in enumerate(values)
    ]
    with capture_logs() as logs:
        assert decode_shadowed(records) == [shadowed()]
    assert [line["offset"] for line in logs] == [1, 3, 4]
