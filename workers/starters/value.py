"""Amounts: what a shop will take tomorrow, and what it exceeds on one day in 20 only."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from streams import Column, Event, Feedback, Mean, Model, Pipeline, Policies, Retrain


class ShopDay(BaseModel):
    """What a shop took today."""

    day_id: str
    shop: str
    closed_at: datetime
    amount: float


def network(features: int) -> Any:
    """The point and the quantile, [n, 2]."""
    from torch import nn

    return nn.Sequential(nn.Linear(features, 32), nn.ReLU(), nn.Linear(32, 2))


pipeline = Pipeline(
    name="starter",
    event=Event(ShopDay, id="day_id", key="shop", time="closed_at"),
    features=[
        Column("amount"),
        Mean(key="shop", over="7d", field="amount"),
        Mean(key="shop", over="28d", field="amount"),
    ],
    model=Model(network, quantiles=(0.95,), parameters={"point_loss": "absolute"}),
    task="value",
    feedback=Feedback(horizon="1d", keep="1d"),
    policies=Policies(retrain=Retrain(every="14d", window="365d", validate="14d", evaluate="14d")),
)
