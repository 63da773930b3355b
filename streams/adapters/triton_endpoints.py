"""Several Tritons as one: requests go to the least loaded that answers.

`DRIFTLOOP_TRITON` names them, separated by commas; all read the same model repository.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from streams import telemetry
from streams.adapters.circuit import Circuit, State
from streams.adapters.triton_client import NotServing
from streams.adapters.triton_control import TritonControl
from streams.adapters.triton_scorer import TritonScorer
from streams.errors import DriftloopError, ModelError, Unavailable
from streams.ports import Scorer
from streams.settings import Settings
from streams.spec import Pipeline

log = structlog.get_logger(__name__)

WATCH_SECONDS = 2.0
"""An endpoint that answered nothing for so long is asked by the watchdog."""
_GAUGE = {"closed": 0.0, "half_open": 0.5, "open": 1.0}
_SMOOTHING = 0.2


def each(settings: Settings) -> list[Settings]:
    """The settings of each endpoint that `settings.triton` lists."""
    addresses = [address.strip() for address in settings.triton.split(",")]
    return [settings.model_copy(update={"triton": address}) for address in addresses if address]


class Restoring(Protocol):
    """Brings back what a Triton has lost; `TritonControl` is one."""

    async def restore(self, version: int, *, died: bool = False) -> None:
        """Load a version again. Raises `ModelError`, `Unavailable`."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class Endpoint:
    """One Triton: its circuit, its load, and the repair of what it has lost."""

    def __init__(self, address: str, scorer: Scorer, control: Restoring) -> None:
        self.address = address
        self.circuit = Circuit(self._report)
        self.in_flight = 0
        self.answered = -WATCH_SECONDS
        """Monotonic time of the last answer."""
        self._seconds = 0.001
        self._scorer = scorer
        self._control = control
        self._repair: asyncio.Task[None] | None = None
        self._report("closed")

    @property
    def load(self) -> float:
        """Seconds that one more request would take: what is in flight, at the recent pace."""
        return (self.in_flight + 1) * self._seconds

    async def infer(self, version: int, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """As `TritonScorer.infer`; what the endpoint has lost is loaded again in the background."""
        self.circuit.sending()
        self.in_flight += 1
        begun = time.monotonic()
        try:
            scores = await self._scorer.infer(version, vectors)
        except Unavailable as error:
            self.circuit.failed()
            if isinstance(error, NotServing) and (self._repair is None or self._repair.done()):
                self._repair = asyncio.create_task(self._restore(version, error.died))
            raise
        except asyncio.CancelledError:
            self.circuit.abandoned()
            raise
        except ModelError:  # it answers: the version is at fault, not the endpoint
            self.circuit.succeeded()
            raise
        finally:
            self.in_flight -= 1
        self.answered = time.monotonic()
        self._seconds += _SMOOTHING * (self.answered - begun - self._seconds)
        self.circuit.succeeded()
        return scores

    async def close(self) -> None:
        """Release the connections."""
        if self._repair is not None:
            self._repair.cancel()
            await asyncio.gather(self._repair, return_exceptions=True)
        await self._scorer.close()
        await self._control.close()

    async def _restore(self, version: int, died: bool) -> None:
        try:
            await self._control.restore(version, died=died)
        except DriftloopError as error:
            log.warning("endpoint is not repaired", endpoint=self.address, error=str(error))

    def _report(self, state: State) -> None:
        telemetry.TRITON_CIRCUIT.labels(self.address).set(_GAUGE[state])
        if state != "half_open":
            log.info("endpoint", endpoint=self.address, circuit=state)


class TritonEndpoints:
    """`Scorer` on several Tritons. Made by `of`."""

    def __init__(self, endpoints: Sequence[Endpoint], features: int) -> None:
        self._endpoints = endpoints
        self._features = features
        self._watchdog: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, settings: Settings, pipeline: Pipeline) -> TritonEndpoints:
        """Every Triton that the settings name; connects with the first request."""
        name, outputs = pipeline.name, pipeline.model.outputs
        endpoints = [
            Endpoint(one.triton, TritonScorer(one, name, outputs), TritonControl(one, name))
            for one in each(settings)
        ]
        return cls(endpoints, len(pipeline.feature_names))

    async def infer(self, version: int, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores float32 [n, outputs] of vectors [n, features] by one version.

        A request that an endpoint fails goes to the next at once.

        Raises:
            Unavailable: none of them answers; at once where all circuits are open.
            ModelError: the version answers wrongly.
        """
        reason: Unavailable | None = None
        asked: set[Endpoint] = set()
        while found := [e for e in self._endpoints if e.circuit.admits and e not in asked]:
            endpoint = min(found, key=lambda e: e.load)
            asked.add(endpoint)
            try:
                return await endpoint.infer(version, vectors)
            except Unavailable as error:
                reason = error
        if reason is None:
            detail = "its circuit is open after failures"
            addresses = ",".join(endpoint.address for endpoint in self._endpoints)
            raise Unavailable("Triton", addresses, "DRIFTLOOP_TRITON", detail)
        raise reason

    def watch(self, version: Callable[[], int]) -> None:
        """Start the watchdog; `version` says which version must answer, 0 for none.

        It asks endpoints without traffic: one whose backend process died stays `ready` while every
        request fails, and is found, opened and repaired before traffic meets it.
        """
        self._watchdog = asyncio.create_task(self._watch(version), name="triton-watchdog")

    async def close(self) -> None:
        """Stop the watchdog and release the connections."""
        if self._watchdog is not None:
            self._watchdog.cancel()
            await asyncio.gather(self._watchdog, return_exceptions=True)
        await asyncio.gather(*(endpoint.close() for endpoint in self._endpoints))

    async def _watch(self, version: Callable[[], int]) -> None:
        probe = np.zeros((1, self._features), np.float32)
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            quiet = time.monotonic() - WATCH_SECONDS
            for endpoint in self._endpoints:
                if version() and endpoint.answered <= quiet and endpoint.circuit.admits:
                    with suppress(DriftloopError):  # the circuit has taken note of it
                        await endpoint.infer(version(), probe)


class TritonControls:
    """Loading and unloading on every Triton that the settings name: all, or an error."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._controls = [TritonControl(one, name) for one in each(settings)]

    async def alive(self) -> None:
        """Return when all answer. Raises `Unavailable`, naming one that does not."""
        await asyncio.gather(*(control.alive() for control in self._controls))

    async def any_alive(self) -> None:
        """Return when one answers. Raises `Unavailable`, naming the last."""
        found = await asyncio.gather(
            *(control.alive() for control in self._controls), return_exceptions=True
        )
        errors = [error for error in found if error is not None]
        if len(errors) == len(found):
            raise errors[-1]

    async def load(self) -> None:
        """Load everywhere. Raises `ModelError`, `Unavailable`."""
        await asyncio.gather(*(control.load() for control in self._controls))

    async def unload(self) -> None:
        """Unload everywhere. Raises `Unavailable`."""
        await asyncio.gather(*(control.unload() for control in self._controls))

    async def ready(self, version: int) -> bool:
        """Whether a version is ready everywhere. Raises `Unavailable`."""
        found = await asyncio.gather(*(control.ready(version) for control in self._controls))
        return all(found)

    async def close(self) -> None:
        """Release the connections."""
        await asyncio.gather(*(control.close() for control in self._controls))
