"""A pipeline that ranks, and made-up requests: the candidate of like taste is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel

from streams.records import Example
from streams.spec import (
    Candidates,
    Column,
    Event,
    Feedback,
    Gate,
    Indices,
    Model,
    Pipeline,
    Policies,
    Retrain,
)
from tests.synthetic import DAY, START

if TYPE_CHECKING:
    from torch import nn

MOST = 8


class Offer(BaseModel):
    shop: str
    taste: float


class Ask(BaseModel):
    ask_id: str
    user: str
    at: float
    taste: float
    seen: list[int] = []
    offers: list[Offer]


def network(features: int) -> nn.Module:
    """Nearness in taste, as far as it learns how much that counts."""
    import torch
    from torch import nn

    class Near(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.counts = nn.Parameter(torch.zeros(1))
            self.last = nn.Linear(features + 4, 1)

        def forward(
            self, features: torch.Tensor, seen: torch.Tensor, candidates: torch.Tensor
        ) -> torch.Tensor:
            del seen
            return self.counts * candidates[:, :, 1] * features[:, :1]

    return Near()


def declare(**changes: Any) -> Pipeline:
    """The pipeline, with some of its parts replaced."""
    parts: dict[str, Any] = {
        "name": "offers",
        "event": Event(Ask, id="ask_id", key="user", time="at"),
        "features": [Column("taste")],
        "inputs": [Indices("seen", field="seen", length=4, most=100)],
        "candidates": Candidates(
            "offers", key="shop", most=MOST, features=[Column("taste")], top=2
        ),
        "task": "ranking",
        "model": Model(network, parameters={"epochs": 6, "batch_size": 64, "learning_rate": 0.05}),
        "feedback": Feedback(horizon="1h", keep="1d"),
        "policies": Policies(
            retrain=Retrain(
                every="2d", window="6d", validate="1d", evaluate="1d", least_examples=100
            ),
            gate=Gate(resamples=200, margin=0.2),
        ),
    }
    return Pipeline(**{**parts, **changes})


pipeline = declare()


def ask(number: int, at: float, tastes: list[float], taste: float = 1.0) -> dict[str, Any]:
    """A request of user `ann`, for shops s0, s1, ..."""
    offers = [{"shop": f"s{one}", "taste": value} for one, value in enumerate(tastes)]
    return {"ask_id": f"a{number}", "user": "ann", "at": at, "taste": taste, "offers": offers}


def made(count: int = 900, seed: int = 0) -> list[Example]:
    """Examples over six days: the larger taste * candidate's, the likelier it is chosen."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(count):
        offered = int(random.integers(3, MOST + 1))
        taste, tastes = random.normal(), random.normal(size=offered)
        [row] = pipeline.layout.zeros(1)
        row["features"], row["candidates"][:offered, 0] = taste, 1.0
        row["candidates"][:offered, 1] = tastes
        chosen = int(np.argmax(3 * taste * tastes + random.gumbel(size=offered)))
        labels = [float(one == chosen) for one in range(offered)]
        at = START + 6 * DAY * number / count
        found.append(
            Example(
                event_id=f"{seed}-{number}",
                event_time=at,
                vector=row.tobytes(),
                score=[1.0 / offered] * offered,
                version=0,
                label=1.0,
                labelled_at=at + 60,
                origin="feedback",
                key=f"u{number % 7}",
                items=[f"s{one}" for one in range(offered)],
                positions=list(range(offered)),
                propensities=[1.0] * offered,
                labels=labels,
            )
        )
    return found
