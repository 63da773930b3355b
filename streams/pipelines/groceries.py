"""Groceries: what a category will sell tomorrow, and what it hardly exceeds (1 day in 20).

The world `groceries` is 84.51°'s Complete Journey, 200 categories by day of 2017.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from streams import (
    Derived,
    Evaluate,
    Event,
    Feedback,
    Mean,
    Model,
    OneHot,
    Pipeline,
    Policies,
    Retrain,
)


class Day(BaseModel):
    """What a category sold until the shop closed; the weekday is tomorrow's."""

    event_id: str
    category: str
    at: float
    amount: float
    weekday: int


def sold(name: str, over: str, delay: str = "0s") -> Mean:
    return Mean(key="category", over=over, delay=delay, field="amount", name=name)


def network(features: int) -> Any:
    from torch import Tensor, nn

    class Sales(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = [nn.Linear(features, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()]
            self.factors, self.zero = nn.Sequential(*layers, nn.Linear(64, 2)), nn.Linear(1, 1)

        def forward(self, given: Tensor) -> Tensor:
            level = (given[:, :1] + self.zero.bias).relu()  # `usual` is the first feature
            return level * self.factors(given).exp() - self.zero.bias  # type: ignore[no-any-return]

    return Sales()


def share(of: Any) -> Any:
    part, whole = of.values()
    return (part + 1) / (whole + 1)


# such a weekday before tomorrow's, the middle of its shop hours: clocks change twice a year
WEEKS = {f"week_{n}": sold(f"week_{n}", "1d", f"{168 * n - 36}h") for n in (1, 2, 3, 4)}
MEANS = {f"days_{n}": sold(f"days_{n}", f"{n}d") for n in (1, 7, 28, 56)}
pipeline = Pipeline(
    name="groceries",
    event=Event(Day, id="event_id", key="category", time="at"),
    features=[
        Derived("usual", of=tuple(WEEKS), function=lambda of: sum(of.values()) / len(of)),
        *WEEKS.values(),
        *MEANS.values(),
        *(
            Derived(f"of_{name}", (name, "days_28"), share)
            for name in (*WEEKS, "days_1", "days_7", "days_56")
        ),
        OneHot("weekday", values=(1, 2, 3, 4, 5, 6, 7)),
    ],
    model=Model(network, quantiles=(0.95,), parameters={"point_loss": "absolute"}),
    task="value",
    feedback=Feedback(horizon="1d", keep="1d"),
    policies=Policies(
        retrain=Retrain(every="14d", window="365d", validate="14d", evaluate="14d"),
        evaluate=Evaluate(every="7d"),
    ),
)
