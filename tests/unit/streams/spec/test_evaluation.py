"""What a pipeline may say of live quality and of roll-outs, and what it is told otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streams.errors import PipelineError
from streams.spec import Evaluate, Policies, Slices
from streams.spec.evaluation import compile_slices
from tests.unit.pipelines import declare

FEATURES = ("amount", "channel=web", "channel=app", "at_night")


def test_slices_are_conditions_on_features() -> None:
    found = compile_slices(Slices(by=("channel", "at_night", "amount > 2.5e1")), FEATURES)
    assert [one.name for one in found] == ["channel=web", "channel=app", "at_night", "amount>2.5e1"]
    vectors = np.array([[25, 1, 0, 0], [26, 0, 1, 1], [0, 0, 0, 2]], np.float32)
    masks = [one.mask(vectors).tolist() for one in found]
    assert masks == [
        [True, False, False],
        [False, True, False],
        [False, True, True],
        [False, True, False],
    ]


@pytest.mark.parametrize(
    ("by", "said"),
    [
        (("chanel",), "'chanel' is no condition on a feature - write a feature's name"),
        (("amount=5",), "'amount=5' is no condition on a feature"),
        (("amount>much",), "'amount>much' is no condition on a feature"),
        (("amount>1", "amount>2", "amount>3"), "makes 3 slices, slices.most is 2"),
    ],
)
def test_what_is_no_slice_is_said(by: tuple[str, ...], said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        compile_slices(Slices(by=by, most=2), FEATURES)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Evaluate(every="0s"), "policies.evaluate.every: is zero"),
        (lambda: Evaluate(top=-1), "policies.evaluate.top: -1 is not in"),
        (lambda: Evaluate(slices=("channel",)), "policies.evaluate.slices: .* is no Slices"),  # type: ignore[arg-type]
        (lambda: Evaluate(costs=(0, 1)), r"policies.evaluate.costs: 0 is no tuple of numbers"),  # type: ignore[arg-type]
        (lambda: Evaluate(costs=0), "policies.evaluate.costs: 0 is no tuple of rows"),  # type: ignore[arg-type]
        (
            lambda: declare(policies=Policies(evaluate=Evaluate(costs=((0, 1), (50,))))),
            r"policies.evaluate.costs: .* is no square of 2 classes - write a row for each label",
        ),
    ],
)
def test_policies_that_cannot_be(wrong: Any, said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        wrong()
