"""Carries out the steps of a roll-out: what each takes in Triton, and its entry in the ledger."""

from __future__ import annotations

import time

import msgspec
import structlog

from streams.aio.retrying import until_available
from streams.errors import ConfigurationError, ModelError, Unavailable
from streams.ledger.state import LedgerState
from streams.ledger.topic import append, new_entry, read_state
from streams.records import Action, LedgerEntry
from streams.settings import Settings
from streams.spec import Pipeline
from workers.releases.manifests import blank
from workers.releases.publisher import Publisher
from workers.releases.rollout import Transition

log = structlog.get_logger(__name__)

_NEED_THE_VERSION = (Action.SHADOW, Action.CANARY, Action.PROMOTE, Action.ROLLBACK)
_LEAVE_OTHERS_OUT = (Action.REJECT, Action.ROLLBACK, Action.SETTLE)


class Steps:
    """The steps of one pipeline's roll-outs."""

    def __init__(self, settings: Settings, pipeline: Pipeline, publisher: Publisher) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._publisher = publisher

    async def carry_out(
        self, step: Transition, decided_on: LedgerState, event_time: float
    ) -> LedgerEntry | None:
        """Execute a step and record it; None where the ledger has moved on since.

        A challenger that turns out not to serve is rejected. A version that is taken back serves
        nobody once that is recorded; it is unloaded after.

        Args:
            step: What was decided,
            decided_on: on this state,
            event_time: at this event time.

        Raises:
            ModelError: the version to go back to does not serve; nothing has changed.
            Unavailable: Kafka or Triton is away; nothing has changed.
        """
        async with self._publisher.alone():
            now = await read_state(self._settings, self._pipeline)
            if now.length != decided_on.length:
                return None
            if step.action in _NEED_THE_VERSION:
                step = await self._loaded(step, now)
            decided = step.entry(now, event_time, round(time.time(), 3))
            await self._record(decided, now)
        return decided

    async def take_back(self, now: LedgerState, reason: str) -> LedgerEntry:
        """End the roll-out of the challenger before it is champion, as an operator says.

        To be called while no other publisher is at work (`Publisher.alone`).

        Raises:
            Unavailable: Kafka is away.
        """
        manifest = now.versions[now.challenger]
        decided = new_entry(Action.REJECT, manifest, now, reason, by="operator")
        await self._record(decided, now)
        return decided

    async def freeze(self, reason: str) -> LedgerEntry:
        """Let no roll-out go further, until `thaw`; versions can still be taken back.

        Raises:
            ConfigurationError: an operator has frozen them already.
            Unavailable: Kafka is away.
        """
        return await self._hold(Action.FREEZE, reason)

    async def thaw(self, reason: str) -> LedgerEntry:
        """Let roll-outs go on.

        Raises:
            ConfigurationError: they are not frozen.
            Unavailable: Kafka is away.
        """
        return await self._hold(Action.THAW, reason)

    async def _hold(self, action: Action, reason: str) -> LedgerEntry:
        async with self._publisher.alone():
            now = await read_state(self._settings, self._pipeline)
            if action is Action.FREEZE and now.frozen == "operator":
                raise ConfigurationError("roll-outs are frozen already - `driftloop thaw` ends it")
            if action is Action.THAW and not now.frozen:
                raise ConfigurationError("roll-outs are not frozen: there is nothing to thaw")
            version = now.challenger or now.champion
            entry = new_entry(action, blank(self._pipeline), now, reason, by="operator")
            decided = msgspec.structs.replace(
                entry, version=version, manifest=None, share=now.share, threshold=now.threshold
            )
            await self._record(decided, now)
        return decided

    async def _loaded(self, step: Transition, now: LedgerState) -> Transition:
        """The step, once its version answers; the rejection of a challenger that does not serve."""
        fresh = step.action is Action.SHADOW
        if not fresh and await self._publisher.loading.ready(step.version):
            return step
        try:
            await self._publisher.serve(step.version, now)
        except ModelError as error:
            if step.action is Action.ROLLBACK:
                raise
            return Transition(Action.REJECT, step.version, str(error))
        return step

    async def record(self, decided: LedgerEntry) -> None:
        """Append to the ledger, however long it takes: Triton is ready for it."""
        await until_available(
            self._pipeline.name, "ledger", lambda: append(self._settings, self._pipeline, decided)
        )

    async def _record(self, decided: LedgerEntry, before: LedgerState) -> None:
        """Append to the ledger; then unload what serves nobody any more."""
        await self.record(decided)
        if decided.action not in _LEAVE_OTHERS_OUT:
            return
        try:
            await self._publisher.leave_out_others(before.after(decided))
        except (ModelError, Unavailable) as error:
            log.warning("a version that serves nobody is still loaded", error=str(error))
