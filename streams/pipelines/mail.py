"""Mail: tell spam by subject and body, learn from what the reader says a day later.

The world `mail` is SpamAssassin's public corpus, 6,046 mails of 2001 and 2002 by the day on which
they were received. What spam looks like changes, and so does how much of it there is.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from streams import Decision, Event, Feedback, Gate, Model, Pipeline, Policies, Retrain, Text

WORDS = 1 << 14


class Mail(BaseModel):
    """One mail; who sent it keys it, and is not learnt from."""

    event_id: str
    sender: str
    at: float
    subject: str
    body: str


def network(features: int) -> Any:
    import torch
    from torch import Tensor, nn

    class Spam(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(WORDS, 16, padding_idx=0)
            self.score = nn.Sequential(nn.Dropout(0.3), nn.Linear(32, 1))

        def forward(self, subject: Tensor, body: Tensor) -> Any:
            given = (subject, body)
            known = [(one > 0).sum(1, keepdim=True).clamp(min=1) for one in given]
            means = [self.words(one).sum(1) / n for one, n in zip(given, known, strict=True)]
            return self.score(torch.cat(means, 1))

    del features  # there are but words
    return Spam()


pipeline = Pipeline(
    name="mail",
    event=Event(Mail, id="event_id", key="sender", time="at"),
    features=[],
    inputs=[Text("subject", "subject", 24, WORDS), Text("body", "body", 300, WORDS)],
    model=Model(network, parameters={"learning_rate": 0.01, "batch_size": 64, "patience": 5}),
    decision=Decision(classes=("mail", "spam")),
    feedback=Feedback(horizon="1d", keep="30d", classes=("mail", "spam")),
    policies=Policies(
        retrain=Retrain("7d", window="540d", validate="14d", evaluate="14d", least_examples=300),
        gate=Gate("roc_auc", least_support=3, alerts=20.0, calibration=20.0),
    ),
)
