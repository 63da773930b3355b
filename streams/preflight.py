"""Checks before work begins: each server is reached once, so that a mistake shows at the start.

The workers themselves wait for a server that goes away later.
"""

from __future__ import annotations

from streams.adapters.redis.state import RedisFeatureState
from streams.adapters.triton.control import TritonControls
from streams.kafka import workarounds
from streams.kafka.grants import Role, check_grants
from streams.kafka.topics import (
    check_retention,
    check_transactions,
    ensure_topics,
    group_id,
)
from streams.settings import Settings
from streams.spec import Pipeline


def exactly_once(settings: Settings, pipeline: Pipeline) -> bool:
    """Whether the pipeline's outputs and offsets are committed in transactions."""
    return (settings.delivery or pipeline.policies.delivery) == "exactly_once"


async def check(settings: Settings, pipeline: Pipeline, role: Role) -> None:
    """Reach what a worker of this role needs; creates missing topics.

    Of several Tritons one has to answer for scores, and every one for the trainer.

    Raises:
        Unavailable: names the address that does not answer and its setting.
        ConfigurationError: a server refuses us, or the brokers do not allow all that is needed, or
            cannot do exactly once where it is asked for.
    """
    workarounds.apply()
    await ensure_topics(settings, pipeline)
    await check_grants(settings, pipeline, role)
    if role != "trainer":
        await check_retention(settings, pipeline)
        if exactly_once(settings, pipeline):
            await check_transactions(settings, group_id(pipeline.name, role))
    if role in ("score", "label"):
        state = await RedisFeatureState.of(settings, pipeline)
        await state.close()
    if role in ("score", "shadow", "trainer"):
        control = TritonControls(settings, pipeline.name)
        try:
            await (control.alive() if role == "trainer" else control.any_alive())
        finally:
            await control.close()
