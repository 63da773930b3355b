"""Asks each server whether it serves us: one that hangs takes connections all the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from streams.adapters.redis.server import greet
from streams.adapters.triton.control import TritonControls
from streams.addresses import public
from streams.kafka.connection import client_options
from streams.kafka.reaching import reach
from streams.settings import Settings
from streams.spec import Pipeline

_TRITON_SECONDS = 2.0


class Probe(NamedTuple):
    """A question to a server."""

    address: str
    ask: Callable[[], Awaitable[object]]
    """Returns within seconds where the server answers, and raises `DriftloopError` otherwise."""


def probes(settings: Settings, pipeline: Pipeline) -> dict[str, Probe]:
    """A probe for each server, by its name."""
    options, url = client_options(settings), settings.redis.get_secret_value()

    async def triton() -> None:
        quick = settings.model_copy(update={"triton_timeout": _TRITON_SECONDS})
        control = TritonControls(quick, pipeline.name)
        try:
            await control.any_alive()
        finally:
            await control.close()

    return {
        "Kafka": Probe(settings.kafka, lambda: reach(settings, options)),
        "Triton": Probe(settings.triton, triton),
        "Redis": Probe(public(url), lambda: greet(url)),
    }
