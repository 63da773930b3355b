"""The small pipeline of `tests.synthetic`, with a budget."""

from __future__ import annotations

from dataclasses import replace

from streams.spec import Budget
from tests import synthetic

_POLICIES = replace(synthetic.pipeline.policies, budget=Budget(retrain_per_day=10.0))
pipeline = replace(synthetic.pipeline, name="paid", policies=_POLICIES)
