"""A circuit breaker: no requests for an endpoint that keeps failing, until a probe passes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Literal

State = Literal["closed", "open", "half_open"]

FAILURES = 3
"""Failures in a row that open a circuit."""
PAUSE = 0.25
"""Seconds that it stays open the first time; each failed probe doubles them."""
LONGEST = 2.0
"""Longest time that it stays open, in seconds: a recovery may go unnoticed for as long."""


class Circuit:
    """Says whether an endpoint may be asked, from how its requests ended.

    Closed: always. Open, after failures in a row: not for a pause, whose length is jittered so that
    workers do not probe in step. Half open: one request goes through, and decides.
    """

    def __init__(
        self,
        changed: Callable[[State], None] = lambda state: None,
        clock: Callable[[], float] = time.monotonic,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._changed = changed
        self._clock = clock
        self._dice = dice
        self._failures = 0
        self._pause = PAUSE
        self._until = 0.0
        self.state: State = "closed"

    @property
    def admits(self) -> bool:
        """Whether a request may be sent now."""
        return self.state == "closed" or (self.state == "open" and self._clock() >= self._until)

    def sending(self) -> None:
        """A request is being sent: on an open circuit it is the probe."""
        if self.state == "open":
            self._turn("half_open")

    def succeeded(self) -> None:
        """A request was answered."""
        self._failures = 0
        self._pause = PAUSE
        self._turn("closed")

    def failed(self, *, certain: bool = False) -> None:
        """A request failed; `certain` if the next one would fail too: then one failure opens it."""
        self._failures += 1
        if self.state == "half_open":
            self._pause = min(2 * self._pause, LONGEST)
        elif self.state == "open" or not (certain or self._failures >= FAILURES):
            return  # a request from before the circuit opened tells nothing new
        self._until = self._clock() + self._pause * (0.75 + 0.5 * self._dice())
        self._turn("open")

    def undecided(self) -> None:
        """A request ended without telling anything: the next may probe again."""
        if self.state == "half_open":
            self._turn("open")

    def _turn(self, state: State) -> None:
        if state != self.state:
            self.state = state
            self._changed(state)
