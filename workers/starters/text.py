"""Texts: which of them somebody will have to see, known within a day."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from streams import Decision, Event, Feedback, Model, Pipeline, Policies, Retrain, Text

WORDS = 1 << 14


class Message(BaseModel):
    """One message."""

    message_id: str
    sender: str
    sent_at: datetime
    text: str


def network(features: int) -> Any:
    """Logits of words, int64 [n, 200], 0 after the last."""
    from torch import Tensor, nn

    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(WORDS, 16, padding_idx=0)
            self.last = nn.Sequential(nn.Dropout(0.3), nn.Linear(16, 1))

        def forward(self, text: Tensor) -> Any:
            count = (text > 0).sum(1, keepdim=True).clamp(min=1)
            return self.last(self.words(text).sum(1) / count)

    del features  # there are none beside the text
    return Words()


pipeline = Pipeline(
    name="starter",
    event=Event(Message, id="message_id", key="sender", time="sent_at"),
    features=[],
    inputs=[Text("text", field="text", tokens=200, vocabulary=WORDS)],
    model=Model(network, parameters={"learning_rate": 0.01, "epochs": 20}),
    decision=Decision(classes=("fine", "urgent")),
    feedback=Feedback(horizon="1d", classes=("fine", "urgent")),
    policies=Policies(retrain=Retrain(every="7d", window="90d", validate="7d", evaluate="7d")),
)
