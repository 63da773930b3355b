"""Card fraud: score each card transaction, learn from the frauds that are confirmed a week later.

The features, the delay and the network are those of the Fraud Detection Handbook (Le Borgne et
al., 2022), so that results can be compared with its published tables.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field

from streams import (
    Cleaning,
    Column,
    Columns,
    Count,
    Decision,
    Event,
    Feature,
    Feedback,
    Gate,
    LabelRate,
    Mean,
    Model,
    Pipeline,
    Policies,
    Retrain,
    Transform,
)

if TYPE_CHECKING:
    from torch import nn

DAY = 86_400


class Transaction(BaseModel):
    """One card payment, as the terminal reports it."""

    transaction_id: str
    customer_id: str
    terminal_id: str
    amount: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
    tx_time: datetime


def is_weekend(columns: Columns) -> Any:
    # 1970-01-01 was a Thursday: day 2 was the first Saturday
    return (columns["tx_time"] // DAY + 3) % 7 >= 5


def is_night(columns: Columns) -> Any:
    return columns["tx_time"] % DAY // 3600 <= 6


def customer(window: str) -> list[Feature]:
    return [
        Count(key="customer_id", over=window),
        Mean(key="customer_id", over=window, field="amount"),
    ]


def terminal(window: str) -> list[Feature]:
    return [
        Count(key="terminal_id", over=window, delay="7d"),
        LabelRate(key="terminal_id", over=window, delay="7d"),
    ]


def network(features: int) -> nn.Module:
    from torch import nn

    return nn.Sequential(nn.Linear(features, 500), nn.ReLU(), nn.Dropout(0.4), nn.Linear(500, 1))


pipeline = Pipeline(
    name="card-fraud",
    event=Event(Transaction, id="transaction_id", key="customer_id", time="tx_time"),
    cleaning=Cleaning(duplicates="1d"),
    features=[
        Column("amount"),
        Transform("is_weekend", is_weekend),
        Transform("is_night", is_night),
        *customer("1d"),
        *customer("7d"),
        *customer("30d"),
        *terminal("1d"),
        *terminal("7d"),
        *terminal("30d"),
    ],
    model=Model(
        network=network,
        parameters={"learning_rate": 3e-3, "batch_size": 1024, "epochs": 10, "patience": 3},
    ),
    decision=Decision(classes=("genuine", "fraud")),
    feedback=Feedback(horizon="7d", missing=0, keep="21d", classes=("genuine", "fraud")),
    policies=Policies(
        retrain=Retrain(every="6d", window="16d", validate="2d", evaluate="3d"),
        # frauds come in series on one card: they are no independent evidence
        gate=Gate(margin=0.05, resample="entity"),
    ),
)
