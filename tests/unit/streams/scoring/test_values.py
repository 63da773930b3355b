"""Predicted numbers, served and labelled: in the label's unit, and without a decision."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streams.spec import Fallback, Feedback, Model, Policies
from streams.testing import Rehearsal
from tests.unit.pipelines import declare, order

T0, HOUR = 1_700_000_000.0, 3600.0
QUANTILES = (0.5, 0.95)


def valued(missing: float | None = None, **changes: Any) -> Any:
    feedback = Feedback(horizon="1h", missing=missing, keep="1h")
    model = Model(network=print, quantiles=QUANTILES)
    return declare(task="value", model=model, feedback=feedback, **changes)


def network(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Ten times the amount, less 500, and two numbers above."""
    above = np.array([0.0, 1.0, 250.0], np.float32)
    return np.add(vectors[:, :1] * 10 - 500, above, dtype=np.float32)


def label(number: int, value: Any, at: float) -> dict[str, Any]:
    return {"event_id": f"o{number}", "label": value, "labelled_at": at}


async def test_a_value_is_served_with_its_quantiles_and_nothing_is_decided() -> None:
    rehearsal = Rehearsal(valued(), network)
    result = await rehearsal.score([order(1, T0, basket=1, amount=100.89)])
    [prediction], [scored] = result.predictions, result.scored
    assert prediction.score == pytest.approx([508.9, 509.9, 758.9])
    assert (prediction.decision, prediction.version, scored.decision) == ("", 1, 0)


async def test_one_number_is_no_list() -> None:
    pipeline = declare(
        task="value", model=Model(network=print), feedback=Feedback(horizon="1h", keep="1h")
    )
    rehearsal = Rehearsal(pipeline, lambda vectors: network(vectors)[:, :1])
    [prediction] = (await rehearsal.score([order(1, T0, basket=1, amount=0.0)])).predictions
    assert (prediction.score, prediction.decision) == (-500.0, "")


async def test_the_fallback_is_a_number_for_the_point_and_each_quantile() -> None:
    policies = Policies(fallback=Fallback(score=-42.5))
    result = await Rehearsal(valued(policies=policies)).score([order(1, T0, basket=1)])
    [prediction] = result.predictions
    assert prediction.score == [-42.5, -42.5, -42.5]
    assert (prediction.version, prediction.degraded, prediction.decision) == (0, True, "")


async def test_labels_are_numbers_and_so_is_what_their_absence_means() -> None:
    rehearsal = Rehearsal(valued(missing=-7.25), network)
    await rehearsal.score([order(n, T0 + n, basket=1) for n in (1, 2, 3)])
    await rehearsal.label([label(1, 100.89, T0 + 60), label(2, "55.0", T0 + 61)])
    later = await rehearsal.score([order(4, T0 + HOUR + 10, basket=1)])
    found = {one.event_id: (one.label, one.origin) for one in later.examples}
    assert found == {
        "o1": (100.89, "feedback"),
        "o2": (55.0, "feedback"),
        "o3": (-7.25, "horizon"),
    }
    [correction] = (await rehearsal.label([label(1, 90.5, T0 + HOUR + 20)])).examples
    assert (correction.label, correction.previous, correction.origin) == (
        90.5,
        100.89,
        "correction",
    )


@pytest.mark.parametrize("value", ["many", 1e300, True])
async def test_what_is_no_number_is_a_dead_letter(value: Any) -> None:
    rehearsal = Rehearsal(valued(), network)
    await rehearsal.score([order(1, T0, basket=1)])
    [letter] = (await rehearsal.label([label(1, value, T0 + 60)])).dead_letters
    assert letter["cause"] == "label"
