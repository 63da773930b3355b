"""Groceries: what a category will sell tomorrow, and what it exceeds on one day in 20 only.

The world `groceries` is 84.51°'s Complete Journey, 200 categories by day of 2017.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel

from streams import Derived, Event, Feedback, Mean, Model, OneHot, Pipeline, Policies, Retrain


class CategoryDay(BaseModel):
    """What a category sold until the shops closed; the weekday is tomorrow's."""

    event_id: str
    category: str
    at: float
    amount: float
    weekday: int


def network(features: int) -> Any:
    import torch
    from torch import Tensor, nn

    class Sales(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factors = nn.Sequential(nn.Linear(features, 64), nn.ReLU(), nn.Linear(64, 2))
            self.nothing = nn.Parameter(torch.ones(1))

        def forward(self, given: Tensor) -> Any:
            usual = (given[:, :1] + self.nothing).relu()  # the first feature
            return usual * self.factors(given).exp() - self.nothing

    return Sales()


# tomorrow's weekday 1 to 4 weeks ago, half a day either way: clocks change twice a year
WEEKS = [Mean("category", "1d", f"{168 * n - 36}h", field="amount") for n in (1, 2, 3, 4)]
DAYS = [Mean("category", over, field="amount") for over in ("1d", "7d", "28d", "56d")]
WEEKDAYS = tuple(one.names[0] for one in WEEKS)
pipeline = Pipeline(
    name="groceries",
    event=Event(CategoryDay, id="event_id", key="category", time="at"),
    features=[
        Derived("usual", WEEKDAYS, lambda of: np.mean([*of.values()], axis=0)),
        *(*WEEKS, *DAYS),
        OneHot("weekday", values=range(1, 8)),
    ],
    model=Model(network, quantiles=(0.95,), parameters={"point_loss": "absolute"}),
    task="value",
    feedback=Feedback(horizon="1d", keep="1d"),
    policies=Policies(retrain=Retrain("14d", "365d", "14d", "14d", least_examples=8000)),
)
