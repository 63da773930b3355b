"""Digits: read handwritten digits off images, learn from what is typed in ten minutes later.

The world `digits` is MNIST (LeCun, Cortes, Burges), 70,000 images at two a second; `small_digits`
are scikit-learn's, of the same size and shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

from streams import Decision, Event, Feedback, Gate, Image, Model, Pipeline, Policies, Retrain

if TYPE_CHECKING:
    from torch import nn

DIGITS = tuple("0123456789")


class ScannedDigit(BaseModel):
    """One digit, as the scanner saw it."""

    event_id: str
    scanner: str
    at: float
    image: str


def network(features: int) -> nn.Module:
    from torch import nn

    del features  # there is but the image
    shapes = [nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    parts = [nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.4)]
    return nn.Sequential(*shapes, *parts, nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, 10))


pipeline = Pipeline(
    name="digits",
    event=Event(ScannedDigit, id="event_id", key="scanner", time="at"),
    features=[],
    inputs=[Image("image", field="image", shape=(28, 28))],
    model=Model(
        network, outputs=10, parameters={"learning_rate": 2e-3, "batch_size": 64, "epochs": 6}
    ),
    decision=Decision(classes=DIGITS),
    feedback=Feedback(horizon="10m", keep="1h", classes=DIGITS),
    policies=Policies(
        retrain=Retrain(every="1h", window="10h", validate="5m", evaluate="10m"),
        gate=Gate(metric="accuracy", margin=0.01),
    ),
)
