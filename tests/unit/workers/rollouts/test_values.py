"""Roll-outs of predicted numbers: losses are shares of what the champion's were, and clipped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from streams.ledger.state import LedgerState, Stage
from streams.records import Manifest, Shadowed
from streams.spec import RollOut
from streams.spec.tasks import Task
from tests import amounts
from tests.models import manifest
from workers.evaluation.sequential import ConfidenceSequence
from workers.evaluation.values import LOSS_BOUND, losses
from workers.rollouts.guards import broken
from workers.rollouts.paired import Lately, StageTally

T0 = 1_700_000_000.0
PIPELINE = amounts.declare(rollout=RollOut())
TASK = PIPELINE.predicts
POLICY = RollOut()


def made(version: int, bound: float | None) -> Manifest:
    metrics = {} if bound is None else {LOSS_BOUND: bound}
    label = {"label": [500.0, 80.0]}
    return manifest(PIPELINE, version, b"", metrics=metrics, normalisation=label)


def state(champions: float | None = 30.0, challengers: float | None = 70.0) -> LedgerState:
    versions = {1: made(1, champions), 2: made(2, challengers)}
    return LedgerState(
        champion=1, challenger=2, stage=Stage.SHADOW, since=T0, versions=versions, length=3
    )


def world(count: int = 400) -> tuple[Any, Any, Any]:
    """Labels [n], and scores of champion and challenger [n, 4]."""
    random = np.random.default_rng(0)
    _, labels = amounts.drawn(count, 5)
    said = [
        labels[:, None] + random.normal(0, noise, (count, 1)) + np.array([0.0, -25, 0, 25])
        for noise in (10, 30)
    ]
    return labels, *said


def records(labels: Any, champion: Any, challenger: Any) -> list[Shadowed]:
    return [
        Shadowed(
            f"e{number}",
            T0 + number,
            1,
            theirs.tolist(),
            2,
            ours.tolist(),
            T0,
            1,
            "k",
            label=float(label),
            labelled_at=T0 + 9,
            origin="feedback",
            slices=["a>3"] * (number % 2),
        )
        for number, (label, theirs, ours) in enumerate(
            zip(labels, champion, challenger, strict=True)
        )
    ]


@pytest.mark.parametrize(("known", "bound"), [(state(), 30.0), (state(champions=None), 70.0)])
def test_the_interval_is_of_losses_as_shares_of_the_champions_bound(
    known: LedgerState, bound: float
) -> None:
    labels, champion, challenger = world()
    tally = StageTally(PIPELINE, known)
    tally.add(records(labels, champion, challenger))
    wanted = labels.astype(np.float32)
    ours, theirs = (
        np.minimum(losses(one, wanted, amounts.QUANTILES) / bound, 1)
        for one in (challenger, champion)
    )
    found, confidence = tally.evidence(T0), PIPELINE.policies.rollout.step_confidence(2)
    expected = ConfidenceSequence(confidence).update(ours - theirs)
    assert found.interval == pytest.approx(expected.interval)
    assert found.interval[0] > 0
    assert (found.labelled, set(found.slices)) == (400, {"a>3"})


def test_one_error_beyond_all_others_decides_nothing() -> None:
    labels, champion, _ = world()
    wild = champion.copy()
    wild[7] = 1e9
    tally = StageTally(PIPELINE, state())
    tally.add(records(labels, champion, wild))
    low, high = tally.evidence(T0).interval
    assert low < 0 < high < 0.2


def test_where_nobody_knows_what_a_large_error_is_nothing_is_compared() -> None:
    with capture_logs() as logs:
        tally = StageTally(PIPELINE, state(None, None))
    assert [line["log_level"] for line in logs] == ["error"]
    tally.add(records(*world()))
    assert tally.evidence(T0).labelled == 0


def test_what_is_broken_is_told_by_the_champions_spread() -> None:
    _, champion, challenger = world(2000)
    label, task = [500.0, 80.0], Task("value", 4, amounts.QUANTILES)

    def found(bad: Any, known: Any = label) -> tuple[str, ...]:
        return broken(POLICY, Lately(champion, bad), known, task)

    assert found(challenger) == ()
    assert found(challenger - 100) == ()  # another model, whose labels will tell
    [said] = found(challenger + 500)
    assert "standard deviations off the champion's" in said
    assert len(found(2 * champion.mean() - challenger)) == 1  # the other way round
    [said] = found(np.full_like(champion, 500.0))
    assert said == "it says 500, 500, 500, 500 of each of 2000 events"
    # the champion has gone wrong, and the challenger says what it was trained on
    gone = Lately(champion + 900, challenger)
    assert broken(POLICY, gone, label, task) == ()
    assert len(broken(POLICY, gone, None, task)) == 1


def test_a_watched_champion_is_compared_with_the_one_before_it() -> None:
    watched = replace(state(), stage=Stage.WATCH, champion=2, previous=1)
    tally = StageTally(PIPELINE, watched)
    tally.add(records(*world()))
    assert tally.evidence(T0).labelled == 400
