"""Machine: tell a unit's faulty states by its sensors, learn from who has looked an hour later.

The world `machine` is NASA's space shuttle (Statlog), 49,097 readings at one a second, of which 7 %
are anomalies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import create_model

from streams import Column, Decision, Event, Feedback, Gate, Model, Pipeline, Policies, Retrain

if TYPE_CHECKING:
    from torch import nn

SENSORS = tuple(f"f{number}" for number in range(1, 10))

named = {"event_id": (str, ...), "unit": (str, ...), "at": (float, ...)}
Reading = create_model("Reading", **named, **dict.fromkeys(SENSORS, (float, ...)))  # type: ignore[call-overload]


def network(features: int) -> nn.Module:
    from torch import nn

    layers = [nn.Linear(features, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)]
    return nn.Sequential(nn.BatchNorm1d(features), *layers)


pipeline = Pipeline(
    name="machine",
    event=Event(Reading, id="event_id", key="unit", time="at"),
    features=[Column(name) for name in SENSORS],
    model=Model(network, parameters={"learning_rate": 3e-3, "epochs": 40, "patience": 8}),
    decision=Decision(classes=("normal", "anomaly")),
    feedback=Feedback(horizon="1h", keep="1h", classes=("normal", "anomaly")),
    policies=Policies(
        retrain=Retrain(every="1h", window="14h", validate="15m", evaluate="15m"),
        gate=Gate(margin=0.02),
    ),
)
