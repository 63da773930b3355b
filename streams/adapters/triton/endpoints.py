"""Several Tritons as one: requests go to the least loaded that answers.

`DRIFTLOOP_TRITON` names them, separated by commas, or by a name of several addresses; all read the
same model repository.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from streams.adapters.triton.client import SETTING
from streams.adapters.triton.control import TritonControl
from streams.adapters.triton.endpoint import Endpoint
from streams.adapters.triton.membership import Membership, ended
from streams.adapters.triton.resolving import Resolver
from streams.adapters.triton.scorer import TritonScorer
from streams.aio.cancelling import cancel
from streams.errors import DriftloopError, ModelError, NotAnswering, Unavailable
from streams.records import Manifest
from streams.settings import Settings
from streams.spec import Pipeline
from streams.spec.layout import Layout, Rows
from streams.versions import Picks

WATCH_SECONDS = 0.5
"""How often a watchdog looks whether its endpoint must prove itself."""


class TritonEndpoints:
    """`Scorer` on several Tritons. Made by `of`."""

    def __init__(self, members: Membership, layout: Layout, outputs: int) -> None:
        self._members = members
        self._layout = layout
        self._outputs = outputs
        self._watchdog: asyncio.Task[None] | None = None

    @classmethod
    def of(
        cls,
        settings: Settings,
        pipeline: Pipeline,
        known: Callable[[], Mapping[int, Manifest]] = dict,
        *,
        repairing: bool = True,
    ) -> TritonEndpoints:
        """Every Triton that the settings name; connects with the first request.

        `known` are the versions that the ledger names: it says what each takes of a row, and no
        file that differs is loaded again. One that is not `repairing` leaves it to others to load
        what a Triton has lost.

        Raises:
            ConfigurationError: they name none.
        """
        name, outputs, layout = pipeline.name, pipeline.model.outputs, pipeline.layout
        resolver = Resolver(settings)
        alone = len(resolver.fixed) == 1 and not resolver.changes

        picks = Picks(pipeline, lambda version: known().get(version))

        def endpoint(one: Settings) -> Endpoint:
            control = TritonControl(one, name, known) if repairing else None
            scorer = TritonScorer(one, name, outputs, picks)
            return Endpoint(name, one.triton, scorer, control, alone=alone)

        members = Membership(resolver, endpoint, layout.zeros(1))
        return cls(members, layout, outputs)

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """Those that get requests now."""
        return self._members.endpoints

    async def infer(self, version: int, rows: Rows) -> NDArray[np.float32]:
        """Scores float32 [n, outputs] of rows by one version.

        A request that an endpoint fails, or does not answer in time, goes to the next at once.

        Raises:
            Unavailable: none of them answers; at once where all circuits are open.
            ModelError: the version answers wrongly, on each that answers.
        """
        if not len(rows):
            return np.empty((0, self._outputs), np.float32)
        self._members.follow()
        asked: list[Endpoint] = []
        wrong: list[Endpoint] = []
        reason: DriftloopError | None = None
        while found := self._willing(asked):
            endpoint, *others = found
            asked.append(endpoint)
            patient = not any(other.circuit.state == "closed" for other in others)
            try:
                scores = await endpoint.infer(version, rows, patient=patient)
            except ModelError as error:
                wrong.append(endpoint)
                reason = error
            except Unavailable as error:
                self._members.doubt()
                reason = reason or error
            else:
                for one in wrong:  # the version is right here, so it is the endpoint that is not
                    one.circuit.failed()
                return scores
        raise reason or self._all_open()

    def expect(self, versions: Callable[[], Sequence[int]]) -> None:
        """Let nobody join, of those behind a name, that does not serve these versions."""
        self._members.versions = versions

    def watch(self, versions: Callable[[], Sequence[int]]) -> None:
        """Expect these versions, and start the watchdog; the first of them must answer.

        It asks endpoints that get no traffic. An endpoint whose backend process has died stays
        `ready` while every request fails; the watchdog finds and repairs it before traffic meets
        it. It also finds out when an endpoint is back, so that no batch has to try.
        """
        self.expect(versions)
        self._members.follow()
        self._watchdog = asyncio.create_task(self._watch(versions), name="triton-watchdog")
        self._watchdog.add_done_callback(ended)

    async def close(self) -> None:
        """Stop the watchdog and release the connections."""
        if self._watchdog is not None:
            await cancel(self._watchdog)
        await self._members.close()

    async def _watch(self, versions: Callable[[], Sequence[int]]) -> None:
        asking: dict[Endpoint, asyncio.Task[None]] = {}
        row = self._layout.zeros(1)
        try:
            while True:
                await asyncio.sleep(WATCH_SECONDS)
                asking = {one: task for one, task in asking.items() if not task.done()}
                for endpoint in self.endpoints:
                    if (wanted := versions()) and endpoint.unproven and endpoint not in asking:
                        asking[endpoint] = asyncio.create_task(_ask(endpoint, wanted[0], row))
        finally:
            await cancel(*asking.values())

    def _willing(self, asked: Sequence[Endpoint]) -> list[Endpoint]:
        """Those that may be asked, the least loaded first; those due for a probe come last."""
        found = [e for e in self.endpoints if e.circuit.admits and e not in asked]
        if len(found) > 1:
            found.sort(key=lambda e: (e.circuit.state != "closed", e.load))
        return found

    def _all_open(self) -> Unavailable:
        for endpoint in self.endpoints:
            if endpoint.lacks:  # it is there: its own words tell more
                return NotAnswering(endpoint.lacks)
        if not self.endpoints:
            return Unavailable("Triton", self._members.named, SETTING, "none serves yet")
        addresses = ",".join(endpoint.address for endpoint in self.endpoints)
        return Unavailable("Triton", addresses, SETTING, "its circuit is open after failures")


async def _ask(endpoint: Endpoint, version: int, row: Rows) -> None:
    with suppress(DriftloopError):  # the endpoint has taken note of it
        await endpoint.infer(version, row)
