"""Groceries: what a category will sell tomorrow, and what it exceeds on one day in 20 only.

The world `groceries` is 84.51°'s Complete Journey, 200 categories by day of 2017.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from streams import Derived, Event, Feedback, Mean, Model, OneHot, Pipeline, Policies, Retrain


class Day(BaseModel):
    """What a category sold until the shops closed; the weekday is tomorrow's."""

    event_id: str
    category: str
    at: float
    amount: float
    weekday: int


def sold(name: str, over: str, delay: str = "0s") -> Mean:
    return Mean(key="category", over=over, delay=delay, field="amount", name=name)


def mean(of: Any) -> Any:
    return sum(of.values()) / len(of)


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
WEEKS = [sold(f"week_{n}", "1d", delay=f"{168 * n - 36}h") for n in (1, 2, 3, 4)]
MEANS = [sold(f"days_{n}", f"{n}d") for n in (1, 7, 28, 56)]
usual = tuple(one.name for one in WEEKS)
pipeline = Pipeline(
    name="groceries",
    event=Event(Day, id="event_id", key="category", time="at"),
    features=[
        Derived("usual", of=usual, function=mean),
        *WEEKS,
        *MEANS,
        OneHot("weekday", values=range(1, 8)),
    ],
    model=Model(network, quantiles=(0.95,), parameters={"point_loss": "absolute"}),
    task="value",
    feedback=Feedback(horizon="1d", keep="1d"),
    policies=Policies(retrain=Retrain("14d", "365d", "14d", "14d", least_examples=8000)),
)
