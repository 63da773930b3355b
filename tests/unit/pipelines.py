"""A small pipeline that unit tests share: orders with an optional channel and late refunds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from streams.errors import PipelineError
from streams.spec import (
    Cleaning,
    Clip,
    Column,
    Count,
    Event,
    Feedback,
    LabelRate,
    Mean,
    Model,
    OneHot,
    Pipeline,
)


class Order(BaseModel):
    order_id: str
    shopper: str
    amount: float
    at: float
    channel: str | None = None
    basket: int | None = None


def declare(**changes: Any) -> Pipeline:
    """The pipeline, with some of its parts replaced."""
    parts: dict[str, Any] = {
        "name": "orders",
        "event": Event(Order, id="order_id", key="shopper", time="at"),
        "cleaning": Cleaning(
            missing={"channel": "web"}, outliers={"amount": Clip(0, 1000)}, duplicates="1h"
        ),
        "features": [
            Column("amount"),
            OneHot("channel", ("web", "app")),
            Count(key="shopper", over="1h"),
            Mean(key="shopper", over="1h", field="amount"),
            LabelRate(key="shopper", over="1d", delay="1h", name="refund_rate"),
        ],
        "model": Model(network=lambda features: features),
        "feedback": Feedback(horizon="1h", missing=0, keep="1h"),
    }
    return Pipeline(**{**parts, **changes})


def refused(**changes: Any) -> str:
    """The one line that says why such a pipeline cannot be."""
    with pytest.raises(PipelineError) as caught:
        declare(**changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def order(number: int, at: float, **changes: Any) -> dict[str, Any]:
    """One order of shopper `ann`."""
    return {"order_id": f"o{number}", "shopper": "ann", "amount": 10.0, "at": at, **changes}


__all__ = ["Order", "declare", "order", "refused", "replace"]
