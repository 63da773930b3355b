"""Rankings: declared, served in order, explored, labelled candidate by candidate."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streams.errors import PipelineError
from streams.spec import (
    Bucket,
    Candidates,
    Count,
    Decision,
    Feedback,
    LabelRate,
    Model,
    Policies,
    RollOut,
)
from streams.testing import Rehearsal, sample_events
from tests.rankings import MOST, ask, declare, pipeline

T0, HOUR = 1_700_000_000.0, 3600.0


def by_taste(rows: Any) -> NDArray[np.float32]:
    """Shares that grow with a candidate's taste."""
    candidates = rows["candidates"]
    grown = np.exp(candidates[:, :, 1]) * candidates[:, :, 0]
    return np.asarray(grown / grown.sum(axis=1, keepdims=True), np.float32)


def label(item: object, value: float, at: float, number: int = 1) -> dict[str, Any]:
    return {"event_id": f"a{number}", "item": item, "label": value, "labelled_at": at}


async def test_candidates_come_in_the_order_of_their_scores() -> None:
    result = await Rehearsal(pipeline, by_taste).score([ask(1, T0, [0.0, 2.0, 1.0])])
    [prediction], [scored] = result.predictions, result.scored
    assert prediction.items == ["s1", "s2", "s0"]
    assert prediction.score == sorted(scored.score, reverse=True)  # type: ignore[arg-type]
    assert sum(scored.score) == pytest.approx(1.0)  # type: ignore[arg-type]
    assert (scored.items, scored.positions) == (["s0", "s1", "s2"], [2, 0, 1])
    assert prediction.propensities == scored.propensities == [1.0, 1.0, 1.0]
    assert prediction.decision == ""


async def test_the_fallback_leaves_the_order_as_it_was() -> None:
    result = await Rehearsal(pipeline).score([ask(1, T0, [0.0, 2.0, 1.0])])
    assert result.predictions[0].items == ["s0", "s1", "s2"]
    assert result.predictions[0].degraded


async def test_a_request_is_folded_once_whatever_it_asks_for() -> None:
    counted = declare(features=[Count(key="user", over="1h")])
    rehearsal = Rehearsal(counted, by_taste)
    result = await rehearsal.score([ask(n, T0 + n, [0.0] * MOST) for n in (1, 2, 3)])
    rows = counted.layout.unpack([one.vector for one in result.scored])
    assert rows["features"][:, 0].tolist() == [1, 2, 3]


async def test_a_share_of_requests_is_shown_in_random_order_with_its_probability() -> None:
    explored = declare(
        candidates=Candidates("offers", key="shop", most=MOST, features=[], explore=0.5)
    )
    events = [ask(n, T0 + n, [0.0, 0.0, 0.0]) for n in range(2000)]

    def first(rows: Any) -> NDArray[np.float32]:
        return np.tile(np.array([0.5, 0.3, 0.2] + [0.0] * (MOST - 3), np.float32), (len(rows), 1))

    found = (await Rehearsal(explored, first).score(events)).predictions
    again = (await Rehearsal(explored, first).score(events[:50])).predictions
    assert [one.items for one in again] == [one.items for one in found[:50]]
    tops = Counter(one.items[0] for one in found)
    # the best one is on top in half of the requests, and in a third of the others
    assert tops["s0"] / 2000 == pytest.approx(0.5 + 0.5 / 3, abs=0.04)
    assert tops["s1"] / 2000 == pytest.approx(0.5 / 3, abs=0.04)
    for one in found:
        said = {"s0": 0.5 + 0.5 / 3}.get(one.items[0], 0.5 / 3)
        assert one.propensities[0] == pytest.approx(said)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"offers": []}, "has no candidates"),
        ({"offers": [{"shop": "s", "taste": 1}] * 2}, "has a candidate twice"),
        (ask(1, T0, [0.0] * (MOST + 1)), "has 9 candidates, more than 8"),
        (ask(1, T0, [1e300]), "no finite float32"),
        ({"seen": [100]}, "not 1 to 99"),
    ],
)
async def test_a_bad_request_is_a_dead_letter_and_costs_no_other(
    changed: dict[str, Any], said: str
) -> None:
    events = [ask(0, T0, [1.0]), {**ask(1, T0, [1.0, 2.0]), **changed}, ask(2, T0, [1.0])]
    result = await Rehearsal(pipeline, by_taste).score(events)
    assert [one.event_id for one in result.predictions] == ["a0", "a2"]
    [letter] = result.dead_letters
    assert letter["cause"] == "input"
    assert said in letter["detail"]


async def test_each_candidate_has_its_own_label_and_what_nobody_chose_is_0() -> None:
    rehearsal = Rehearsal(pipeline, by_taste)
    await rehearsal.label([{**label("s1", 1, T0 + 5), "key": "ann"}])  # before the event
    await rehearsal.score([ask(n, T0 + n, [0.0, 2.0, 1.0]) for n in (1, 2)])
    await rehearsal.label([label("s0", 1, T0 + 60), label("s2", 3, T0 + 70)])
    await rehearsal.label([label("s0", 0, T0 + 80), label("other", 1, T0 + 80)])
    later = await rehearsal.score([ask(3, T0 + HOUR + 10, [0.0])])
    found = {one.event_id: (one.labels, one.label, one.origin) for one in later.examples}
    assert found == {"a1": ([0, 1, 3], 3, "feedback"), "a2": ([0, 0, 0], 0, "horizon")}
    assert later.examples[0].items == ["s0", "s1", "s2"]
    [changed] = (await rehearsal.label([label("s2", 0, T0 + HOUR + 20)])).examples
    assert (changed.labels, changed.previous_labels) == ([0, 1, 0], [0, 1, 3])
    assert changed.origin == "correction"


@pytest.mark.parametrize(("item", "value"), [(None, 1), ("s0", -1), ("", 1)])
async def test_a_label_of_no_candidate_is_a_dead_letter(item: object, value: float) -> None:
    rehearsal = Rehearsal(pipeline, by_taste)
    await rehearsal.score([ask(1, T0, [0.0, 2.0])])
    [letter] = (await rehearsal.label([label(item, value, T0 + 60)])).dead_letters
    assert letter["cause"] == "label"


async def test_samples_fit() -> None:
    result = await Rehearsal(pipeline).score(sample_events(pipeline, 20))
    assert len(result.predictions) == 20


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": None}, 'candidates: are of a ranking alone - write task="ranking"'),
        ({"candidates": None}, "candidates: are missing"),
        ({"candidates": Candidates("offers", key="name")}, "candidates.key"),
        ({"candidates": Candidates("seen", key="shop", most=201)}, "candidates.most"),
        ({"candidates": Candidates("offers", key="shop", explore=2.0)}, "candidates.explore"),
        ({"candidates": Candidates("user", key="shop")}, "no list of ids or of models"),
        (
            {"candidates": Candidates("offers", "shop", features=[Count(key="shop", over="1h")])},  # type: ignore[list-item]
            "no feature of a candidate alone",
        ),
        (
            {
                "candidates": Candidates(
                    "offers", "shop", most=200, features=[Bucket("shop", 9)] * 50
                )
            },
            "have one name twice",
        ),
        ({"features": [LabelRate(key="user", over="1d", delay="1h")]}, "each candidate has its"),
        ({"decision": Decision(threshold=0.3)}, "decides nothing where candidates are ranked"),
        ({"policies": Policies(rollout=RollOut())}, "policies.rollout: compares losses"),
        ({"feedback": Feedback(horizon="1h", missing=-1)}, "feedback.missing"),
        ({"model": Model(print, outputs=3)}, "model.outputs: is 3"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(PipelineError) as error:
        declare(**changes)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
