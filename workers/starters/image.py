"""Images: which of three classes each is of, known within a day."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from streams import Decision, Event, Feedback, Gate, Image, Model, Pipeline, Policies, Retrain

CLASSES = ("good", "scratched", "broken")


class Photo(BaseModel):
    """One image: base64 of 28 rows of 28 bytes, one for each pixel; 0 is black."""

    photo_id: str
    camera: str
    taken_at: datetime
    image: str


def network(features: int) -> Any:
    """Logits of images, float32 [n, 1, 28, 28] of 0 to 1."""
    from torch import nn

    del features  # there are none beside the image
    seen = [nn.Conv2d(1, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    seen += [nn.Conv2d(16, 32, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.3)]
    return nn.Sequential(*seen, nn.Linear(512, len(CLASSES)))


pipeline = Pipeline(
    name="starter",
    event=Event(Photo, id="photo_id", key="camera", time="taken_at"),
    features=[],
    inputs=[Image("image", field="image", shape=(28, 28))],
    model=Model(network, outputs=len(CLASSES), parameters={"epochs": 10}),
    decision=Decision(classes=CLASSES),
    feedback=Feedback(horizon="1d", classes=CLASSES),
    policies=Policies(
        retrain=Retrain(every="1d", window="28d", validate="1d", evaluate="2d"),
        gate=Gate(metric="accuracy", margin=0.02),
    ),
)
