"""Films: order a hundred of them for a user by what he has rated before, and learn what he takes.

The network knows a user by the films that he has seen, so that it serves who came after it.
"""

from datetime import datetime
from typing import Any

from pydantic import BaseModel

import streams as s

FILMS = 2048


class Request(BaseModel):
    """The films that a user has rated, oldest first, and those on offer."""

    event_id: str
    user: str
    at: float
    seen: list[int]
    films: list[int]


def network(features: int) -> Any:
    import torch
    from torch import nn

    class Choice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen, self.film = nn.Embedding(FILMS, 64, padding_idx=0), nn.Embedding(FILMS, 64)
            self.liked, self.kept = nn.Embedding(FILMS, 1), nn.Dropout1d(0.5)
            for table in (self.seen, self.film, self.liked):
                nn.init.normal_(table.weight, std=0.05)

        def forward(self, seen: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
            film = candidates[:, :, 1].long().clamp(0, FILMS - 1)
            known = (seen > 0).sum(dim=1, keepdim=True).clamp(min=1)
            user = self.kept(self.seen(seen)).sum(dim=1) / known**0.5
            found: torch.Tensor = self.film(film) @ user.unsqueeze(2) + self.liked(film)
            return found.squeeze(2)

    return Choice()


pipeline = s.Pipeline(
    name="films",
    event=s.Event(Request, id="event_id", key="user", time="at"),
    cleaning=s.Cleaning(earliest=datetime(1997, 1, 1)),
    features=[],
    inputs=[s.Indices("seen", field="seen", length=128, most=FILMS)],
    candidates=s.Candidates("films", key="film", features=[s.Column("film", False)], explore=0.05),
    model=s.Model(network, parameters={"learning_rate": 5e-3, "weight_decay": 0.1, "epochs": 12}),
    task="ranking",
    feedback=s.Feedback(horizon="1h", keep="1h"),
    policies=s.Policies(retrain=s.Retrain(every="7d", window="70d", validate="7d", evaluate="7d")),
)
