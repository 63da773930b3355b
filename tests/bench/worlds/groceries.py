"""A category's sales of the next day, from its days before: means, and a 95 % quantile."""

from __future__ import annotations

import numpy as np

from tests.bench.worlds.stream import Figures, Floats, stream

FROM = 120
"""The first day that is judged; those before choose the categories."""
SHARE = 0.95


def measure() -> Figures:
    """WAPE (absolute errors over sales), and of the quantile pinball loss over sales, and cover."""
    found = stream("groceries")
    days = len(np.unique(found.at))
    ahead = found.label.reshape(days, -1)
    first = np.array([one.fields["amount"] for one in found.happenings]).reshape(days, -1)[:1]
    sold = np.concatenate([first, ahead])  # [days, categories]
    truth = sold[FROM:]

    def past(*back: int) -> Floats:
        return np.stack([sold[FROM - n : len(sold) - n] for n in back])

    quantile = np.quantile(past(*range(1, 57)), SHARE, axis=0)
    over = truth - quantile
    pinball = np.maximum(SHARE * over, (SHARE - 1) * over).sum() / truth.sum()
    means = {
        "the day a week before": past(7),
        "mean of 28 days": past(*range(1, 29)),
        "mean of four such weekdays": past(7, 14, 21, 28),
    }
    return [
        *((f"WAPE, {name}", f"{_wape(truth, of.mean(axis=0)):.3f}") for name, of in means.items()),
        ("95 % quantile of 56 days", f"pinball {pinball:.4f}, covers {(over <= 0).mean():.3f}"),
    ]


def _wape(truth: Floats, said: Floats) -> float:
    return float(np.abs(truth - said).sum() / truth.sum())
