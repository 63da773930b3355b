"""Card fraud with a window of every kind more: what the faults' oracle judges."""

from __future__ import annotations

from dataclasses import replace

from streams.pipelines.card_fraud import pipeline as card_fraud
from streams.spec import (
    CountDistinct,
    First,
    LabelRate,
    Lag,
    Last,
    Max,
    Min,
    Std,
    TimeSince,
)

WHO, WHERE, WHAT = "customer_id", "terminal_id", "amount"
PRIOR, STRENGTH = 0.1, 10.0

customers = [
    Min(key=WHO, over="7d", field=WHAT),
    Max(key=WHO, over="7d", field=WHAT),
    Std(key=WHO, over="7d", field=WHAT),
    CountDistinct(key=WHO, over="7d", field=WHERE),
    First(key=WHO, over="7d", field=WHAT),
    Last(key=WHO, over="30d", delay="1d", field=WHAT, default=-1.0),
    Lag(key=WHO, over="30d", field=WHAT, back=2, default=-1.0),
    TimeSince(key=WHO, over="7d"),
]
rates = [
    LabelRate(key=WHERE, over="30d", delay="7d", class_=0),
    LabelRate(key=WHERE, over="30d", delay="7d", class_=1, smooth=(PRIOR, STRENGTH)),
]

pipeline = replace(card_fraud, features=[*card_fraud.features, *customers, *rates])
