"""The trainer's purse: may the retrain that is due begin, and is serving within budget?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import structlog

from streams import telemetry
from streams.errors import Unavailable
from streams.ledger.topic import read_state
from streams.metering.account import DAY, Usage
from streams.metering.prices import Prices
from streams.settings import Settings
from streams.spec import Pipeline
from workers.costs.budget import (
    Standing,
    over_budget,
    spent_on_retrains,
    why_put_off,
    why_skipped,
)
from workers.costs.gains import gains, most_expected
from workers.costs.reading import read_usages
from workers.costs.summing import per_million, runs, within

log = structlog.get_logger(__name__)

EVERY = 60.0
"""Seconds between two looks at what was spent: as often as processes write it down."""


class Purse:
    """What one pipeline may spend."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._budget = pipeline.policies.budget
        self._prices = Prices.of_settings(settings)
        self._skipped = 0
        self._put_off = False
        self._over = False

    async def watch(self) -> None:
        """Tell Prometheus what was spent, and the log when serving is over budget; never returns.

        A broker that is away is asked again a minute later: who works with it says so.
        """
        if self._budget.declared and not self._prices.given:
            log.warning(
                "the pipeline has a budget and nothing has a price, so that it holds nothing back "
                "- set DRIFTLOOP_PRICE_CPU_HOUR and the other prices: `driftloop settings`"
            )
        while True:
            try:
                self.look(await read_usages(self._settings, self._pipeline), time.time())
            except Unavailable as error:
                log.debug("cannot see what was spent", error=str(error))
            await asyncio.sleep(EVERY)

    def look(self, usages: Sequence[Usage], now: float) -> None:
        """Take in what was used until now."""
        name, made = self._pipeline.name, runs(usages, self._prices)
        telemetry.RETRAIN_SPENT.labels(name).set(spent_on_retrains(made, now))
        telemetry.RETRAIN_PUT_OFF.labels(name).set(self._put_off)
        serving = per_million(within(usages, now - DAY), self._prices)
        telemetry.COST_PER_MILLION.labels(name).set(serving or 0.0)
        said = over_budget(self._budget, serving, self._prices.currency)
        if said and not self._over:
            log.warning("serving is over budget, and goes on", reason=said)
        elif self._over and not said:
            log.info("serving is within budget again")
        self._over = bool(said)

    async def holds(self) -> bool:
        """Whether the retrain that is due has to wait for money; the log says so once.

        Raises:
            Unavailable: no broker answers.
        """
        if not self._budget.limits_retrains:
            return False
        said = why_put_off(self._budget, await self._standing(), time.time(), self._prices.currency)
        if said and not self._put_off:
            log.warning("a retrain is put off", reason=said)
        elif self._put_off and not said:
            log.info("a retrain that was put off begins")
        self._put_off = bool(said)
        telemetry.RETRAIN_PUT_OFF.labels(self._pipeline.name).set(self._put_off)
        return self._put_off

    async def skips(self) -> bool:
        """Whether the retrain that is due is not worth its price; the log says so.

        Raises:
            Unavailable: no broker answers.
        """
        if self._budget.per_point is None:
            return False
        said = why_skipped(self._budget, await self._standing(), self._prices.currency)
        if said:
            log.warning("a retrain is skipped", reason=said)
        self._skipped = self._skipped + 1 if said else 0
        return bool(said)

    async def _standing(self) -> Standing:
        made = runs(await read_usages(self._settings, self._pipeline), self._prices)
        most = most_expected(gains(await read_state(self._settings, self._pipeline)))
        return Standing(made, most, self._skipped)
