"""Mail: tell spam by subject and body, learn from what the reader says a day later.

The world `mail` is SpamAssassin's public corpus, 6,046 mails of 2001 and 2002 by the day on which
they were received. What spam looks like changes, and so does how much of it there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

from streams import Decision, Drift, Event, Feedback, Gate, Model, Pipeline, Policies, Retrain, Text

if TYPE_CHECKING:
    from torch import nn

WORDS = 1 << 16


class Mail(BaseModel):
    """One mail; who sent it keys it, and is not learnt from."""

    event_id: str
    sender: str
    at: float
    subject: str
    body: str


def network(features: int) -> nn.Module:
    import torch
    from torch import Tensor, nn

    class Spam(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.subject, self.body = (nn.Embedding(WORDS, 16, padding_idx=0) for _ in "sb")
            self.last = nn.Sequential(nn.Dropout(0.3), nn.Linear(32, 32), nn.ReLU())
            self.score = nn.Linear(32, 1)

        def forward(self, subject: Tensor, body: Tensor) -> Tensor:
            pairs = ((subject, self.subject), (body, self.body))
            means = [e(t).sum(1) / (t > 0).sum(1, keepdim=True).clamp(min=1) for t, e in pairs]
            return self.score(self.last(torch.cat(means, 1)))  # type: ignore[no-any-return]

    del features  # there are but words
    return Spam()


words = (Text("subject", "subject", 24, WORDS), Text("body", "body", 500, WORDS))
pipeline = Pipeline(
    name="mail",
    event=Event(Mail, id="event_id", key="sender", time="at"),
    features=[],
    inputs=words,
    model=Model(network, parameters={"learning_rate": 3e-3, "batch_size": 32, "patience": 5}),
    decision=Decision(classes=("mail", "spam")),
    feedback=Feedback(horizon="1d", keep="30d", classes=("mail", "spam")),
    policies=Policies(
        retrain=Retrain("7d", "540d", validate="14d", evaluate="14d", least_examples=300),
        gate=Gate("roc_auc", least_support=3, alerts=20.0, calibration=20.0),
        drift=Drift(retrain=False),  # a week is soon enough
    ),
)
