"""Payments: which of them will turn out to be fraud, known a week later."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from streams import (
    Column,
    Count,
    Decision,
    Event,
    Feedback,
    LabelRate,
    Mean,
    Model,
    Pipeline,
    Policies,
    Retrain,
)


class Payment(BaseModel):
    """One payment; fields that no feature names are ignored."""

    payment_id: str
    customer: str
    shop: str
    amount: float
    paid_at: datetime


def network(features: int) -> Any:
    """Logits of the features, which come scaled."""
    from torch import nn

    return nn.Sequential(nn.Linear(features, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 1))


pipeline = Pipeline(
    name="starter",
    event=Event(Payment, id="payment_id", key="customer", time="paid_at"),
    features=[
        Column("amount"),
        Count(key="customer", over="1d"),
        Mean(key="customer", over="7d", field="amount"),
        LabelRate(key="shop", over="28d", delay="7d"),
    ],
    model=Model(network, parameters={"epochs": 10}),
    decision=Decision(classes=("genuine", "fraud")),
    # a payment that nobody has complained of within a week was genuine
    feedback=Feedback(horizon="7d", missing=0, classes=("genuine", "fraud")),
    policies=Policies(retrain=Retrain(every="7d", window="28d", validate="2d", evaluate="5d")),
)
