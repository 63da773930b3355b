"""Mail: tell spam by subject and body, learn from what the reader says a day later.

The world `mail` is SpamAssassin's public corpus, 6,046 mails of 2001 and 2002 by the day on which
they were received. What spam looks like changes, and so does how much of it there is.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from streams import Decision, Event, Feedback, Gate, Model, Pipeline, Policies, Retrain, Text

WORDS = 1 << 16


class Mail(BaseModel):
    """One mail; who sent it keys it, and is not learnt from."""

    event_id: str
    sender: str
    at: float
    subject: str
    body: str


def network(features: int) -> Any:
    from torch import Tensor, nn

    class Spam(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.usual = nn.Embedding(WORDS, 1, padding_idx=0), nn.Linear(1, 1)
            nn.init.zeros_(self.words.weight)  # a word that nobody has seen says nothing

        def forward(self, subject: Tensor, body: Tensor) -> Any:
            def said(tokens: Tensor) -> Any:
                return self.words(tokens).sum(1) / (tokens > 0).sum(1, keepdim=True).clamp(1).sqrt()

            return said(subject) + said(body) + self.usual.bias

    del features  # there are but words
    return Spam()


pipeline = Pipeline(
    name="mail",
    event=Event(Mail, id="event_id", key="sender", time="at"),
    features=[],
    inputs=[Text("subject", "subject", 24, WORDS), Text("body", "body", 500, WORDS)],
    model=Model(network, parameters={"learning_rate": 0.05, "batch_size": 64, "epochs": 8}),
    decision=Decision(threshold=0.5, classes=("mail", "spam")),
    feedback=Feedback(horizon="1d", keep="30d", classes=("mail", "spam")),
    policies=Policies(
        retrain=Retrain("7d", "540d", validate="14d", evaluate="14d", least_positives=200),
        gate=Gate("roc_auc", least_support=3, alerts=20.0, calibration=20.0),
    ),
)
