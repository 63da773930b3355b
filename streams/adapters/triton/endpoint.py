"""One Triton of several: its circuit, its load, and the repair of what it has lost."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from streams import telemetry
from streams.adapters.triton.circuit import Circuit, State
from streams.adapters.triton.client import SETTING, NotServing, Overloaded
from streams.aio.cancelling import cancel
from streams.errors import DriftloopError, ModelError, Unavailable
from streams.ports.models import Scorer
from streams.spec.layout import Rows

log = structlog.get_logger(__name__)

QUIET_SECONDS = 2.0
"""The watchdog asks an endpoint that has answered nothing for this many seconds."""
PATIENCE = 0.5
"""Seconds that an answer may take, at least, before another endpoint is asked instead."""
_TIMES_USUAL = 8.0
"""A slow model gets more time: this many times what its answers usually take."""
_SPREAD = 0.25
"""Repairs begin at a random time within this many seconds."""
_SMOOTHING = 0.2
_GAUGE = {"closed": 0.0, "half_open": 0.5, "open": 1.0}


class Restoring(Protocol):
    """Brings back what a Triton has lost; `TritonControl` is one."""

    async def restore(self, version: int, *, died: bool = False) -> None:
        """Load a version again. Raises `ModelError`, `Unavailable`."""
        ...

    async def catch_up(self, versions: Iterable[int]) -> None:
        """Load all that is configured now beside these versions, and them.

        Raises `ModelError`, `Unavailable`.
        """
        ...

    async def require(self, version: int) -> None:
        """Return where the version is ready. Raises `Unavailable` where it is not."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class Endpoint:
    """Asks one Triton, and takes note of how that went."""

    def __init__(
        self,
        pipeline: str,
        address: str,
        scorer: Scorer,
        control: Restoring | None,
        clock: Callable[[], float] = time.monotonic,
        *,
        alone: bool = False,
    ) -> None:
        """One that is `alone` leaves it to others to say that it is away: everybody waits then.

        Without a `control`, what it has lost is for others to bring back.
        """
        self.address = address
        self.lacks = ""
        """What it said of a version that it does not serve; empty where it does, or is away."""
        self.circuit = Circuit(self._report, clock)
        self._labels = pipeline, address
        self._gauge = telemetry.TRITON_CIRCUIT.labels(*self._labels)
        self._scorer = scorer
        self._control = control
        self._clock = clock
        self._waiting: set[asyncio.Timeout] = set()
        """The requests in flight."""
        self._rest = asyncio.Event()
        self._seconds = 0.001
        self._answered = clock() - QUIET_SECONDS
        self._repairing: asyncio.Task[None] | None = None
        self._repaired = -math.inf
        """Requests from before this time tell nothing about the model that answers now."""
        self._logged: State = "closed"
        self._alone = alone
        self._gauge.set(_GAUGE["closed"])

    @property
    def load(self) -> float:
        """Seconds that one more request would take: what is in flight, at the recent pace."""
        return (len(self._waiting) + 1) * self._seconds

    @property
    def in_flight(self) -> int:
        """Requests that it was sent and has not answered."""
        return len(self._waiting)

    async def at_rest(self) -> None:
        """Return when it has answered all that it was sent."""
        self._rest.clear()
        if self._waiting:
            await self._rest.wait()

    @property
    def unproven(self) -> bool:
        """Whether its watchdog should ask: no answer lately, or a circuit that is due for one."""
        quiet = self._clock() - self._answered >= QUIET_SECONDS
        return self.circuit.admits and (quiet or self.circuit.state == "open")

    async def infer(self, version: int, rows: Rows, *, patient: bool = True) -> NDArray[np.float32]:
        """As `TritonScorer.infer`; what the endpoint has lost is brought back in the background.

        A request that is not `patient` is given up, as `Unavailable`, when it takes longer than
        usual.
        """
        afresh = self.circuit.state != "closed"
        self.circuit.sending()
        begun, patience = self._clock(), max(PATIENCE, _TIMES_USUAL * self._seconds)
        scope = asyncio.timeout(None if patient else patience)
        try:
            async with scope:
                self._waiting.add(scope)
                scores = await self._scorer.infer(version, rows)
        except ModelError:  # the version may be at fault, or the endpoint: others will tell
            self.circuit.undecided()
            raise
        except Overloaded:  # it works, and says so: others are asked, and it again
            self.circuit.undecided()
            raise
        except NotServing as error:
            self.lacks = str(error)
            self._failed(begun, certain=error.died)
            if self._control is not None and begun >= self._repaired:
                self._repair(self._control, version, rows[:1], error)
            raise
        except TimeoutError:
            self.lacks = ""
            self._failed(begun)
            reason = f"no answer in {self._clock() - begun:.2g} s"
            raise Unavailable("Triton", self.address, SETTING, reason) from None
        except (Unavailable, asyncio.CancelledError):  # cancelled: its caller could not wait longer
            self.lacks = ""
            self._failed(begun)
            raise
        finally:
            self._waiting.discard(scope)
            if not self._waiting:
                self._rest.set()
        took = self._clock() - begun
        if afresh:  # how slow it was before it failed tells nothing of it now
            self._seconds = took
        else:
            self._learn(took)
        self._succeeded()
        return scores

    async def prove(self, versions: Sequence[int], row: Rows) -> None:
        """Return once it answers `row` by the first of the versions, and has the others ready.

        With a control, all that is configured is loaded first; without one, only the first version
        is asked about.

        Raises:
            Unavailable: it is away, or lacks a version. `ModelError`, where one does not load.
        """
        first, *others = versions
        if self._control is not None:
            await self._control.catch_up(versions)
        await self.infer(first, row)
        if self._control is not None:
            for version in others:
                await self._control.require(version)

    async def close(self) -> None:
        """Release the connections."""
        self._forget()
        if self._repairing is not None:
            await cancel(self._repairing)
        await self._scorer.close()
        if self._control is not None:
            await self._control.close()

    def _forget(self) -> None:
        """Show nothing of an endpoint that is named no more."""
        with suppress(KeyError):  # another of ours may have shown it, too
            telemetry.TRITON_CIRCUIT.remove(*self._labels)

    def _failed(self, begun: float, *, certain: bool = False) -> None:
        if begun < self._repaired:
            self.circuit.undecided()
            return
        took = self._clock() - begun
        if took >= PATIENCE:
            self._learn(took)
        self.circuit.failed(certain=certain or took >= PATIENCE)

    def _learn(self, took: float) -> None:
        self._seconds += _SMOOTHING * (took - self._seconds)

    def _succeeded(self) -> None:
        self._answered = self._clock()
        self.lacks = ""
        self.circuit.succeeded()

    def _repair(self, control: Restoring, version: int, row: Rows, lost: NotServing) -> None:
        if self._repairing is None or self._repairing.done():
            self._repairing = asyncio.create_task(self._restore(control, version, row, lost))

    async def _restore(self, control: Restoring, version: int, row: Rows, lost: NotServing) -> None:
        await asyncio.sleep(_SPREAD * random.random())  # noqa: S311 - only so that workers differ
        try:
            if still := await self._still(version, row, lost):
                await control.restore(version, died=still.died)
                await self._scorer.infer(version, row)
        except DriftloopError as error:
            log.warning("Triton does not serve what it lost", error=str(error))
        else:
            self._repaired = self._clock()
            self._succeeded()
            self._give_up_waiting()

    async def _still(self, version: int, row: Rows, lost: NotServing) -> NotServing | None:
        """What it lacks now: another worker may have repaired it; unloading it then would harm all.

        A dead process delays each request that waits for it by a second, one after the other.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                await self._scorer.infer(version, row)
        except NotServing as error:
            return error
        except TimeoutError:
            return lost
        return None

    def _give_up_waiting(self) -> None:
        """Fail the requests that wait for a process that is gone, so that they are sent again."""
        now = asyncio.get_running_loop().time()
        for scope in self._waiting:
            if not scope.expired():
                scope.reschedule(now)

    def _report(self, state: State) -> None:
        self._gauge.set(_GAUGE[state])
        if state in (
            "half_open",
            self._logged,
        ):  # the log shows an outage once, not each of its probes
            return
        self._logged = state
        if state == "closed":
            log.info("a Triton gets requests again", endpoint=self.address)
        else:
            write = log.info if self._alone else log.warning
            write("a Triton fails, others get its requests until it answers", endpoint=self.address)
