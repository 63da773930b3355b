"""What a pipeline may say of drift, and what it is told otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from streams.errors import PipelineError
from streams.spec import Drift, Policies


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Drift(rate=0.5), "policies.drift.rate: 0.5 is not in"),
        (lambda: Drift(rate=0.0), "policies.drift.rate: 0.0 is not in"),
        (lambda: Drift(least=-1.0), "policies.drift.least: -1.0 is no stability index"),
        (lambda: Drift(retrain=3), "policies.drift.retrain: 3 is not True or False"),  # type: ignore[arg-type]
        (lambda: Policies(drift=0.01), "policies.drift: 0.01 is no Drift - write Drift"),  # type: ignore[arg-type]
    ],
)
def test_policies_that_cannot_be(wrong: Any, said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        wrong()
