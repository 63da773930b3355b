"""Liver: who of a clinic's patients will have diabetes within two years, by visit.

The world `liver` is the NAFLD study of Olmsted County (Allen et al., Hepatology 2018), 20 years of
dated lab values and diagnoses. That nobody fell ill is known when the two years are over.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import create_model

from streams import (
    Cleaning,
    Column,
    Decision,
    Evaluate,
    Event,
    Feedback,
    Gate,
    Model,
    Pipeline,
    Policies,
    Retrain,
)

if TYPE_CHECKING:
    from torch import nn

KNOWN = ("age", "male", "nafld", "hypertension", "dyslipidemia", "heart")
USUAL = {"weight": 83.2, "height": 169.0, "bmi": 28.6, "hdl": 51.0, "chol": 190.0}
USUAL |= {"sbp": 128.0, "dbp": 76.0, "smoke": 0.0, "fib4": 1.2}
"""What is measured at some visits, and what stands for it at others."""

named = {"event_id": (str, ...), "person": (str, ...), "at": (float, ...)}
always, sometimes = dict.fromkeys(KNOWN, (float, ...)), dict.fromkeys(USUAL, (float | None, None))
Visit = create_model("Visit", **named, **always, **sometimes)  # type: ignore[call-overload]


def network(features: int) -> nn.Module:
    from torch import nn

    return nn.Sequential(nn.Linear(features, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))


pipeline = Pipeline(
    name="liver",
    event=Event(Visit, id="event_id", key="person", time="at"),
    cleaning=Cleaning(missing=USUAL, earliest=datetime(1990, 1, 1)),
    features=[Column(name) for name in (*KNOWN, *USUAL)],
    model=Model(network, parameters={"epochs": 40, "patience": 8, "weight_decay": 0.01}),
    decision=Decision(classes=("none", "diabetes")),
    feedback=Feedback(horizon="730d", keep="30d", classes=("none", "diabetes")),
    policies=Policies(
        retrain=Retrain("180d", "7300d", validate="180d", evaluate="180d"),
        gate=Gate("roc_auc", margin=0.1),
        evaluate=Evaluate(every="90d"),
    ),
)
