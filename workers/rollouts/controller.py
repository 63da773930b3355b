"""Rolls versions out by degrees: watches the one on its way, decides, and carries it out.

All that it remembers is in the ledger and in `P.shadow`. It reads a stage's records from the
stage's begin, so one that was killed goes on as if it had not been; and of two that decide on the
same ledger one decides.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import structlog

from streams import telemetry
from streams.aio.retrying import until_available
from streams.errors import BadRecord, ModelError, Unavailable
from streams.kafka.reading import TopicFollower
from streams.kafka.tailing import TopicTail
from streams.labelling.reading import FeedbackReader, read_served
from streams.ledger.state import LedgerState, Stage
from streams.ledger.topic import LedgerFollower
from streams.ports.batches import SourceRecord
from streams.records import Action, LedgerEntry, Shadowed
from streams.settings import Settings
from streams.spec import Pipeline
from workers.releases.rollout import StageEvidence, decide
from workers.releases.steps import Steps
from workers.rollouts.asking import Asking
from workers.rollouts.guards import absent, broken
from workers.rollouts.paired import StageName, StageTally
from workers.rollouts.shadowed import decode_shadowed

log = structlog.get_logger(__name__)

_LOOK = 0.5
"""Seconds between two looks."""
_CLOCKS = 60.0
"""Seconds by which the clocks of two machines may differ."""
_MOST = 20_000
"""Records that are taken in at once."""
_SILENT = 60.0
"""Seconds without a compared event after which that is said."""

T = TypeVar("T")


class RollOutController:
    """Rolls out one pipeline's versions."""

    def __init__(self, settings: Settings, pipeline: Pipeline, steps: Steps) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._policy = pipeline.policies.rollout
        self._steps = steps
        self._changed = asyncio.Event()
        self._ledger = LedgerFollower(settings, pipeline, self._changed.set)
        self._served = TopicTail(settings, pipeline.topics.scored)
        self._feedback = FeedbackReader(pipeline)
        self._now = 0.0
        """Event time of the newest event that was served."""
        self._complained = ""
        """What the log has said of a step that fails."""

    async def run(self) -> None:
        """Work until cancelled; waits for servers that are away."""
        await self._patiently(self._ledger.start)
        try:
            await self._patiently(self._served.start)
            while True:
                self._changed.clear()
                state = self._ledger.state
                self._observe(state)
                if state.compared:
                    await self._compare(state)
                elif state.stage is Stage.CANDIDATE:
                    await self._begin(state)
                else:
                    await self._changed.wait()
        finally:
            await self._ledger.stop()
            await self._served.stop()

    async def _begin(self, state: LedgerState) -> None:
        """Begin with a candidate, once events are served that it can be compared on."""
        await self._look_at_served()
        if self._now > 0.0:
            await self._decide(state, StageEvidence(state.challenger, state.since))
        await self._until_changed(_LOOK)

    async def _compare(self, state: LedgerState) -> None:
        """Watch a version in one stage, until the ledger says that it is in another."""
        name, tally = StageName.of(state), StageTally(self._pipeline, state)
        latest_label, silent = 0.0, _Silence(name.challenger)
        async with self._reading(state.begun) as topic, self._asking(state) as asking:
            while (state := self._ledger.state).compared and StageName.of(state) == name:
                self._changed.clear()
                records = await self._patiently(lambda: topic.poll(_LOOK, _MOST))
                shadowed, labels = self._read(records)
                tally.add(shadowed)
                silent.hear(len(shadowed))
                latest_label = max([latest_label, *labels])
                failed = absent(self._policy, asking.answers)
                if await self._patiently(topic.caught_up):
                    known, task = tally.losses.trained_on, self._pipeline.predicts
                    failed += broken(self._policy, tally.lately(), known, task)
                elif not failed:
                    continue  # there is more to read, before anything is known
                await self._look_at_served()
                evidence = tally.evidence(latest_label, failed)
                self._observe(state, evidence)
                await self._decide(state, evidence)
                await self._until_changed(_LOOK)

    async def _decide(self, state: LedgerState, evidence: StageEvidence) -> None:
        """Carry out the next step, if there is one."""
        now = self._now
        step = decide(self._policy, state, evidence, now)
        if step is None:
            return
        try:
            recorded = await self._patiently(lambda: self._steps.carry_out(step, state, now))
        except ModelError as error:
            if (said := str(error)) != self._complained:
                log.error(
                    "a version is to be taken back, and the one before it does not serve",
                    version=state.challenger,
                    error=said,
                )
            self._complained = said
        else:
            if recorded is not None:
                _report(state.challenger, recorded)

    @asynccontextmanager
    async def _reading(self, begun: float) -> AsyncIterator[TopicFollower]:
        """What was compared and fed back since a time of day."""
        topics = self._pipeline.topics
        follower = TopicFollower(self._settings, topics.shadow, topics.feedback)
        try:
            await self._patiently(follower.start)
            await self._patiently(lambda: follower.skip_to(begun - _CLOCKS))
            yield follower
        finally:
            await follower.stop()

    @asynccontextmanager
    async def _asking(self, state: LedgerState) -> AsyncIterator[Asking]:
        asking = Asking(self._settings, self._pipeline, state)
        asking.start()
        try:
            yield asking
        finally:
            await asking.stop()

    async def _look_at_served(self) -> None:
        for record in await self._patiently(self._served.newest):
            try:
                event, happened = read_served(record)
            except BadRecord:  # the labeller's affair
                continue
            # one with a time that is to come must not end the wait for labels
            self._now = max(self._now, min(event.event_time, happened))

    def _read(self, records: Sequence[SourceRecord]) -> tuple[list[Shadowed], list[float]]:
        """What was compared, and when labels were known."""
        compared, known = list[SourceRecord](), list[float]()
        for record in records:
            if record.topic == self._pipeline.topics.shadow:
                compared.append(record)
                continue
            try:
                known.append(self._feedback.label(record)[1].known_at)
            except BadRecord:  # the labeller's affair
                continue
        return decode_shadowed(compared), known

    async def _until_changed(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    def _observe(self, state: LedgerState, evidence: StageEvidence | None = None) -> None:
        name = self._pipeline.name
        telemetry.ROLLOUT_SHARE.labels(name).set(state.share)
        telemetry.ROLLOUT_FROZEN.labels(name).set(bool(state.frozen))
        telemetry.ROLLOUT_LABELLED.labels(name).set(evidence.labelled if evidence else 0)
        if evidence is not None:
            for end, value in zip(("low", "high"), evidence.interval, strict=True):
                telemetry.ROLLOUT_LOSS.labels(name, end).set(value)

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        name = self._pipeline.name
        return await until_available(name, "rollout", call, passing=(Unavailable,))


class _Silence:
    """Says once that nothing is compared, where that lasts."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._since = time.monotonic()
        self._said = False

    def hear(self, compared: int) -> None:
        """So many events were compared since the last time."""
        if compared:
            self._since = time.monotonic()
        elif time.monotonic() - self._since > _SILENT and not self._said:
            self._said = True
            log.warning(
                "nothing is compared, the roll-out waits - see that events are served and that "
                "`driftloop shadow` runs",
                version=self._version,
            )


def _report(challenger: int, done: LedgerEntry) -> None:
    """One line for each step; what goes wrong is a warning."""
    fields = {"version": challenger, "action": done.action.value, "reason": done.reason}
    if done.action in (Action.REJECT, Action.ROLLBACK):
        log.warning("a version is taken back", **fields)
    elif done.action is Action.FREEZE:
        log.warning("the roll-out stands still", **fields)
    else:
        log.info("roll-out", share=done.share or None, **fields)
