"""Speech: which digit was said, learn from who has listened five minutes later.

The world `speech` is eSpeak NG's: 6,000 short sounds; eight voices come in the second half only.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from streams import Audio, Decision, Event, Feedback, Gate, Model, Pipeline, Policies, Retrain

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Utterance(BaseModel):
    """One word; the voice is its key, and not learnt from."""

    event_id: str
    voice: str
    at: float
    sound: str


def network(_: int) -> Any:
    import torch
    from torch import Tensor, conv1d, nn

    turns = torch.outer(torch.arange(3, 99), torch.arange(256)) * torch.pi / 128
    waves = torch.cat([turns.cos(), turns.sin()])[:, None] * torch.hann_window(256)

    class Heard(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.waves = nn.Buffer(waves)
            parts = [nn.BatchNorm1d(96), nn.Conv1d(96, 64, 5), nn.ReLU(), nn.MaxPool1d(2)]
            parts += [nn.Conv1d(64, 64, 5), nn.ReLU(), nn.AdaptiveMaxPool1d(1), nn.Flatten()]
            self.word = nn.Sequential(*parts, nn.Dropout(0.3), nn.Linear(64, 10))

        def forward(self, sound: Tensor) -> Any:
            cosines, sines = conv1d(sound[:, None], self.waves, stride=128).chunk(2, 1)
            return self.word((cosines**2 + sines**2 + 1e-4).log())

    return Heard()


pipeline = Pipeline(
    name="speech",
    event=Event(Utterance, id="event_id", key="voice", time="at"),
    features=[],
    inputs=[Audio("sound", field="sound", samples=7680, rate=11_025)],
    model=Model(network, outputs=10, parameters={"batch_size": 32, "epochs": 15}),
    decision=Decision(classes=WORDS),
    feedback=Feedback(horizon="5m", keep="1h", classes=WORDS),
    policies=Policies(
        retrain=Retrain("10m", "2h", "2m", "2m", least_examples=300, least_positives=10),
        gate=Gate("accuracy", margin=0.1, least_support=3),
    ),
)
