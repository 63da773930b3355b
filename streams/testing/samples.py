"""Sample events made from a pipeline's schema, for `driftloop check`."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from streams.spec import Pipeline
from streams.spec.events import base_type

_START = datetime(2024, 1, 1, tzinfo=UTC)


def sample_events(pipeline: Pipeline, count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Valid events, one a minute, over a tenth as many entities; the same for the same seed."""
    # costs a tenth of a worker's start, and only `driftloop check` needs it
    from polyfactory.factories.pydantic_factory import ModelFactory

    event = pipeline.event
    factory = ModelFactory.create_factory(event.schema, __random_seed__=seed)
    entities = random.Random(seed)  # noqa: S311 - not a secret
    samples = []
    for number in range(count):
        sample = factory.build().model_dump(mode="json")
        at = _START + timedelta(minutes=number)
        sample[event.time] = (
            at.isoformat() if base_type(event.schema, event.time) is datetime else at.timestamp()
        )
        sample[event.id] = _typed(pipeline, event.id, number)
        for plan in pipeline.plan.keys:
            entity = entities.randrange(1 + count // 10)
            sample[plan.key] = _typed(pipeline, plan.key, entity)
        samples.append(sample)
    return samples


def _typed(pipeline: Pipeline, name: str, number: int) -> str | int:
    text = base_type(pipeline.event.schema, name) is str
    return f"{name}-{number}" if text else number
