"""What the ledger tells the gate: the anchor, how often a champion was compared, open gains."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from streams.ledger.state import LedgerState, state_after
from streams.ledger.topic import new_entry
from streams.records import Action
from streams.spec import Column
from tests.models import manifest
from tests.synthetic import declare
from workers.evaluation.estimates import Estimate, deviations, pooled, share_of_look
from workers.evaluation.history import History, apart, find_anchor, history

PIPELINE = declare("remembered")
AP = "average_precision"
ACTIONS = {1: Action.PROMOTE, 0: Action.INCONCLUSIVE, -1: Action.REJECT}


def after(*told: tuple[int, dict[str, float]], schema: str | None = None) -> LedgerState:
    """The ledger after candidates: the gate's verdict, and metrics beside it."""
    entries = list[msgspec.Struct]()
    for number, (verdict, metrics) in enumerate(told):
        now = state_after(entries)  # type: ignore[arg-type]
        made = manifest(
            PIPELINE,
            number + 1,
            b"",
            parent=now.champion,
            slices={"evaluate": [float(number), number + 1.0]},
            metrics={"gate": float(verdict), **metrics},
        )
        entries.append(new_entry(ACTIONS[verdict], made, now, "", by="gate"))
    return state_after(entries)  # type: ignore[arg-type]


def gained(gain: float, anchor: int = 1, low: float = -1.0) -> dict[str, float]:
    return {
        f"champion_{AP}": 0.7,
        "gain": gain,
        "gain_se": 0.01,
        "anchor": float(anchor),
        "anchor_gain": gain,
        "anchor_gain_se": 0.01,
        "anchor_low": low,
    }


def told(now: LedgerState, metric: str = AP) -> History:
    return history(now, metric, PIPELINE)


def test_without_a_champion_there_is_no_anchor() -> None:
    assert told(after()) == History()
    assert told(after((0, {}))).looks == 1  # a first version that was left open


def test_the_first_champion_stays_anchor_until_one_is_proven_better() -> None:
    now = after((1, {}), (1, gained(-0.01)), (1, gained(-0.01)))
    assert (now.champion, find_anchor(now, PIPELINE)) == (3, 1)
    now = after((1, {}), (1, gained(0.1, low=0.05)), (1, gained(-0.01, anchor=2)))
    assert find_anchor(now, PIPELINE) == 2


def test_what_was_proven_better_but_never_promoted_is_no_anchor() -> None:
    now = after((1, {}), (-1, gained(0.1, low=0.05)))
    assert find_anchor(now, PIPELINE) == 1


def test_an_anchor_of_other_features_is_none() -> None:
    assert find_anchor(after((1, {})), replace(PIPELINE, features=[Column("a")])) == 0


def test_an_anchor_that_was_rolled_back_is_none() -> None:
    now = after((1, {}), (1, gained(0.1, low=0.05)))
    back = now.after(new_entry(Action.ROLLBACK, now.versions[1], now, "", by="operator"))
    assert find_anchor(back, PIPELINE) == 1


def test_a_run_holds_the_open_candidates_since_the_champion() -> None:
    now = after((1, {}), (0, gained(0.1)), (0, gained(0.2)))
    found = told(now)
    assert (found.anchor, found.looks, found.anchor_looks) == (1, 2, 2)
    assert [one.gain for one in found.run] == [0.2, 0.1]
    assert [one.anchor_gain for one in found.run] == [0.2, 0.1]
    assert told(now, "roc_auc").run == ()


def test_a_rejection_ends_the_run_and_still_counts_as_a_look() -> None:
    found = told(after((1, {}), (0, gained(0.1)), (-1, gained(-0.2)), (0, gained(0.3))))
    assert (found.looks, [one.gain for one in found.run]) == (3, [0.3])


def test_a_promotion_begins_anew_but_for_the_anchor() -> None:
    found = told(after((1, {}), (0, gained(0.1)), (1, gained(0.0)), (0, gained(0.3))))
    assert (found.looks, found.anchor, found.anchor_looks) == (1, 1, 3)
    assert [one.gain for one in found.run] == [0.3]


def test_overlapping_windows_count_once() -> None:
    run = told(after((1, {}), *[(0, gained(0.1))] * 4)).run  # [4, 5), [3, 4), [2, 3), [1, 2)
    assert len(apart(run, 5.0)) == 4
    assert [one.evaluated[0] for one in apart(run, 3.5)] == [2.0, 1.0]
    wide = tuple(
        msgspec.structs.replace(one, evaluated=(one.evaluated[0] - 1, one.evaluated[1]))
        for one in run
    )
    assert len(apart(wide, 5.0)) == 2


def test_a_history_survives_its_way_to_the_child() -> None:
    found = told(after((1, {}), (0, gained(0.1))))
    assert msgspec.json.decode(msgspec.json.encode(found), type=History) == found


def test_pooling_weighs_by_inverse_variance() -> None:
    found = pooled([Estimate(0.0, 0.1), Estimate(0.1, 0.2)])
    assert found.value == pytest.approx(0.02)
    assert found.error == pytest.approx((1 / 125) ** 0.5)
    apart_by_far = pooled([Estimate(-1.0, 0.1), Estimate(1.0, 0.1)])
    assert apart_by_far.error == pytest.approx(1.0)  # chi² is 200 on one degree of freedom


def test_what_looks_may_spend_adds_up_to_the_allowed_error() -> None:
    assert sum(share_of_look(0.1, look) for look in range(1, 10_000)) == pytest.approx(
        0.1, rel=1e-3
    )
    assert deviations(0.05) == pytest.approx(1.96, abs=0.001)


def test_twenty_looks_seldom_promote_what_is_worse_than_the_margin() -> None:
    """Pooled or not: 2,000 champions, 20 candidates each, all worse by exactly the margin."""
    random = np.random.default_rng(4)
    promoted = 0
    for _ in range(2000):
        run = []
        for look in range(1, 21):
            run.append(Estimate(random.normal(-0.03, 0.01), 0.01))
            if pooled(run).low(deviations(share_of_look(0.1, look))) >= -0.03:
                promoted += 1
                break
    assert promoted / 2000 <= 0.05
